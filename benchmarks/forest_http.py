"""How fast is a forest over HTTP, against the servers that a user would pick instead?"""

from benchmarks.comparison import Comparison, compare_servers
from benchmarks.goals import Goal
from benchmarks.results import Report
from benchmarks.run import Say, Settings
from benchmarks.servers import BASELINE, NOTES, QUICK, STEADY, everybody

NAME = "forest_http"
QUESTION = (
    "How fast is a forest of 100 trees over HTTP, one row a request, "
    "against the servers that a user would pick instead?"
)
_OURS = ("modelyard", "v2 json")
_FASTAPI = [("fastapi", "json")]
GOALS = (
    Goal(
        "forest, JSON, 64 connections: requests/s over FastAPI's",
        _OURS,
        _FASTAPI,
        64,
        "per_second",
        at_least=9,
    ),
    Goal(
        "forest, JSON, 64 connections: requests/s over tuned FastAPI's",
        _OURS,
        [("fastapi-tuned", "json")],
        64,
        "per_second",
        at_least=4,
    ),
    Goal(
        "forest, JSON, 64 connections: requests/s over mosec's",
        _OURS,
        [("mosec", "json")],
        64,
        "per_second",
        at_least=2,
    ),
    Goal(
        "forest, JSON, 64 connections: requests/s over the bare class's",
        _OURS,
        [("bare-class", "json")],
        64,
        "per_second",
        at_least=0.7,
    ),
    Goal("forest, JSON, 1 connection: p50 over FastAPI's", _OURS, _FASTAPI, 1, "p50", at_most=0.4),
    Goal(
        "forest, JSON, 64 connections: p99 over FastAPI's", _OURS, _FASTAPI, 64, "p99", at_most=0.25
    ),
)


def run(settings: Settings, say: Say) -> Report:
    """Measure; some minutes."""
    comparison = Comparison(
        NAME, QUESTION, "forest", everybody(), BASELINE, STEADY, GOALS, QUICK, notes=NOTES
    )
    return compare_servers(comparison, settings, say)
