"""What does the gate cost: keys, limits and metering, for every call?"""

from benchmarks.comparison import Comparison, compare_servers
from benchmarks.goals import Goal
from benchmarks.peers.gated import Gated, concurrency, quota, rate_limit
from benchmarks.results import Report
from benchmarks.run import Say, Settings

NAME = "gate"
QUESTION = (
    "What does the gate cost a forest of 100 trees over JSON: "
    "a key known, limits kept and a usage event written for every call?"
)
_OPEN = Gated(name="open", is_open=True)
_PEERS = (
    _OPEN,
    Gated(name="key"),
    Gated(name="key and rate", limits=(rate_limit(),)),
    Gated(name="key and all limits", limits=(rate_limit(), quota(), concurrency())),
)
_THEIRS = [("open", "v2 json")]
GOALS = tuple(
    Goal(
        f"{peer.name}, 64 connections: requests/s over the open server's",
        (peer.name, "v2 json"),
        _THEIRS,
        64,
        "per_second",
        at_least=0.88,
    )
    for peer in _PEERS[1:]
)


def run(settings: Settings, say: Say) -> Report:
    """Measure; two minutes."""
    names = frozenset(peer.name for peer in _PEERS)
    comparison = Comparison(
        NAME,
        QUESTION,
        "forest",
        _PEERS,
        _OPEN.name,
        names,
        GOALS,
        names,
        notes=[
            "Of the open server nobody's calls are counted; of the others every call leaves a "
            "usage event in a file before it is answered, which a thread copies to the registry."
        ],
    )
    return compare_servers(comparison, settings, say)
