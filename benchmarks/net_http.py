"""How fast is a small convolutional net over HTTP, whose requests are 16 kB of JSON?"""

from benchmarks.comparison import Comparison, compare_servers
from benchmarks.goals import Goal
from benchmarks.results import Report
from benchmarks.run import Say, Settings
from benchmarks.servers import BASELINE, NOTES, QUICK, STEADY, everybody

NAME = "net_http"
QUESTION = (
    "How fast is a small convolutional net over HTTP, one image of 28 by 28 a request, "
    "as JSON and as bytes?"
)
_FASTAPI = [("fastapi", "json")]
GOALS = (
    Goal(
        "net, JSON, 64 connections: requests/s over FastAPI's",
        ("modelyard", "v2 json"),
        _FASTAPI,
        64,
        "per_second",
        at_least=5,
    ),
    Goal(
        "net, binary, 64 connections: requests/s over FastAPI's JSON",
        ("modelyard", "v2 binary"),
        _FASTAPI,
        64,
        "per_second",
        at_least=8,
    ),
)


def run(settings: Settings, say: Say) -> Report:
    """Measure; some minutes."""
    comparison = Comparison(
        NAME, QUESTION, "net", everybody(), BASELINE, STEADY, GOALS, QUICK, notes=NOTES
    )
    return compare_servers(comparison, settings, say)
