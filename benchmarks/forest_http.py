"""How fast is a forest over HTTP, against the service that most people write by hand?"""

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.forest import make_forest
from benchmarks.measure import measure_alone
from benchmarks.peer import Forest, Peer
from benchmarks.peers.handwritten import fastapi_service, fastapi_tuned
from benchmarks.peers.modelyard import Modelyard
from benchmarks.processes import Memory
from benchmarks.results import Aim, Figure, Report, figure
from benchmarks.run import Occasion, Say, Settings, chosen, measure_load

NAME = "forest_http"
QUESTION = (
    "How fast is a forest of 100 trees over HTTP, one row a request, "
    "against the FastAPI service that most people write?"
)
_BASELINE = "fastapi"
_MB = 1e6
_NOTES = [
    "Load generator and server share the machine: with few cores the generator's share is "
    "taken from the server, and most from the fastest.",
    "The hand-written services run two processes, Modelyard one.",
    "The hand-written services take one JSON form only, so every ratio, of binary requests "
    "too, is to that form.",
]


def everyone() -> list[Peer]:
    """The servers that this benchmark knows."""
    return [fastapi_service(), fastapi_tuned(), Modelyard()]


def run(settings: Settings, say: Say) -> Report:
    """Measure; some minutes."""
    occasion = Occasion.now()
    peers = chosen(everyone(), settings, _BASELINE)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        say("training and converting the forest")
        forest = make_forest(folder)
        for peer in peers:
            say(f"preparing {peer.name}")
            peer.prepare(forest, folder)
        figures = _measure_alone(peers, forest, folder, settings, say)
        points = measure_load(peers, forest, folder, settings, baseline=_BASELINE, say=say)
    report = Report(
        benchmark=NAME,
        question=QUESTION,
        command=occasion.command,
        date=occasion.date,
        machine=occasion.machine,
        commit=occasion.commit,
        method=settings.method(_BASELINE),
        servers={peer.name: peer.what for peer in peers},
        figures=figures,
        points=points,
        notes=_NOTES,
    )
    return with_aims(report)


def _measure_alone(
    peers: list[Peer], forest: Forest, folder: Path, settings: Settings, say: Say
) -> list[Figure]:
    starts: dict[str, list[float]] = {peer.name: [] for peer in peers}
    memories: dict[str, list[Memory]] = {peer.name: [] for peer in peers}
    for number in range(1, settings.rounds + 1):
        for peer in peers:
            start_s, memory = measure_alone(
                peer, forest, folder, connections=max(settings.connections), seconds=1
            )
            starts[peer.name].append(start_s)
            memories[peer.name].append(memory)
            say(
                f"alone {number}/{settings.rounds}: {peer.name}: first answer after "
                f"{start_s:.2f} s, {memory.pss / _MB:.0f} MB in {memory.processes} processes"
            )
    figures = []
    for name, seen in memories.items():
        figures += [
            figure(name, "cold start", "s", starts[name]),
            figure(name, "memory (PSS)", "MB", [each.pss / _MB for each in seen]),
            figure(name, "memory (USS)", "MB", [each.uss / _MB for each in seen]),
            figure(name, "memory (RSS)", "MB", [each.rss / _MB for each in seen]),
            figure(name, "processes", "", [each.processes for each in seen]),
        ]
    return figures


def with_aims(report: Report) -> Report:
    """The aims set for one Modelyard process, where the run has what they need."""
    measured = {point.connections for point in report.points if point.server == "modelyard"}
    aims = []
    if 64 in measured:
        ratio = report.point("modelyard", "v2 json", 64).ratio
        if ratio is not None:
            aims.append(_at_least("v2 json at 64 connections, times FastAPI", ratio.per_second, 6))
    if 1 in measured:
        ratio = report.point("modelyard", "v2 json", 1).ratio
        if ratio is not None:
            aims.append(_at_most("v2 json at 1 connection, p50 over FastAPI's", ratio.p50, 0.4))
    if measured:
        start_s = report.figure("modelyard", "cold start").median
        memory_mb = report.figure("modelyard", "memory (PSS)").median
        aims += [
            _at_most("cold start to first answer, s", start_s, 1.5),
            _at_most("memory after load (PSS), MB", memory_mb, 150),
        ]
    return msgspec.structs.replace(report, aims=aims)


def _at_least(text: str, value: float, bound: float) -> Aim:
    return Aim(f"{text}: at least {bound:g}", value, bound, value >= bound)


def _at_most(text: str, value: float, bound: float) -> Aim:
    return Aim(f"{text}: at most {bound:g}", value, bound, value <= bound)
