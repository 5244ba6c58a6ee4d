"""How much of a text encoder's own speed is left over HTTP, and how fair is the queue?"""

from collections.abc import Mapping
from dataclasses import replace

from benchmarks.comparison import Comparison, compare_servers
from benchmarks.goals import Goal
from benchmarks.in_process import measure_queue
from benchmarks.model import Model
from benchmarks.results import Report, Round
from benchmarks.run import Key, Say, Settings
from benchmarks.servers import BASELINE, NOTES, QUICK, STEADY, everybody

NAME = "encoder_http"
QUESTION = (
    "How much of a text encoder's own speed is left over HTTP, one sentence of 64 tokens a "
    "request, and how long does the slowest wait?"
)
_ALONE = "onnxruntime"
_SECONDS = 4
_LANES = {
    "1 lane of 1 thread": (1, 1),
    "1 lane of 2 threads": (1, 2),
    "2 lanes of 1 thread": (2, 1),
}
_OURS = ("modelyard", "v2 json")
_BEST = [(_ALONE, form) for form in _LANES]
GOALS = (
    *(
        Goal(
            f"encoder, {count} connection{'s' * (count > 1)}: requests/s over onnxruntime's alone",
            _OURS,
            _BEST,
            count,
            "per_second",
            at_least=0.95,
        )
        for count in (1, 8, 64)
    ),
    Goal(
        "encoder, 64 connections: p99 over the ideal queue's", _OURS, _BEST, 64, "p99", at_most=1.3
    ),
)
# An in-line service computes on its event loop and a loop that computes answers nobody: the bare
# class and mosec's batches are for small models.
_STEADY = STEADY - {"mosec", "bare-class", "fastapi-tuned"}


def run(settings: Settings, say: Say) -> Report:
    """Measure; some minutes. Four seconds a point at least, or 64 connections have a few turns."""
    settings = replace(settings, seconds=max(settings.seconds, _SECONDS))
    comparison = Comparison(
        NAME,
        QUESTION,
        "encoder",
        [peer for peer in everybody() if peer.name != "bare-class"],
        BASELINE,
        _STEADY,
        GOALS,
        QUICK,
        notes=(
            *NOTES,
            "onnxruntime alone: callers in one process whose calls are run strictly in the order "
            "of their arrival, nothing decoded or sent; the fastest of its settings is the aims' "
            "measure.",
        ),
        # The model costs a hundred times what any form does.
        every_form=False,
        in_process=_alone,
        in_process_what={_ALONE: "limit: onnxruntime in process behind a first-in-first-out queue"},
    )
    return compare_servers(comparison, settings, say)


def _alone(model: Model, settings: Settings, say: Say) -> Mapping[Key, list[Round]]:
    found: dict[Key, list[Round]] = {}
    for _ in range(settings.rounds):
        for count in settings.connections:
            for form, (lanes, threads) in _LANES.items():
                measured = measure_queue(
                    model, lanes=lanes, threads=threads, callers=count, seconds=settings.seconds
                )
                found.setdefault((_ALONE, form, count), []).append(measured)
                say(
                    f"  {_ALONE}, {form}, {count} callers: {measured.per_second:,.0f}/s, "
                    f"p99 {measured.p99_ms:.0f} ms"
                )
    return found
