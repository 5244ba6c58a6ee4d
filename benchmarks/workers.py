"""What does another worker cost, and what does it bring?"""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measure import measure_server
from benchmarks.model import make_model
from benchmarks.peers.modelyard import Modelyard
from benchmarks.results import Figure, Point, Report, Round, figure
from benchmarks.run import Key, Occasion, Say, Settings, to_points

NAME = "workers"
QUESTION = (
    "What does another worker cost in memory, and what does it bring in requests, "
    "with a forest of 100 kB and with a model of 300 MB?"
)
_MODELS = ("forest", "heavy")
_WORKERS = (1, 2, 4)
_CONNECTIONS = (1, 64)
_MB = 1e6
_NOTES = [
    "Memory is PSS over the process tree, after load, with no other server running: a page that "
    "several workers share counts once.",
    "More workers than cores bring nothing and cost their memory: 4 shows how much, where the "
    "machine has 2.",
]


def run(settings: Settings, say: Say) -> Report:
    """Measure; two minutes."""
    occasion = Occasion.now()
    rounds: dict[Key, list[Round]] = {}
    figures: list[Figure] = []
    servers: dict[str, str] = {}
    with TemporaryDirectory() as temporary:
        for name in _MODELS:
            folder = Path(temporary)
            say(f"making the {name} model")
            model = make_model(name, folder)
            place = folder / f"served-{name}"
            place.mkdir()
            for workers in _WORKERS:
                peer = Modelyard(workers, _server(name, workers))
                peer.prepare(model, place)
                servers[peer.name] = f"{peer.what}; {name}"
                starts, memories = [], []
                for _ in range(settings.rounds):
                    seen = measure_server(
                        peer,
                        model,
                        place,
                        peer.forms(model)[:1],
                        _CONNECTIONS,
                        seconds=settings.seconds,
                        warm_up_s=settings.warm_up_s,
                        say=say,
                    )
                    starts.append(seen.cold_start_s)
                    memories.append(seen.memory)
                    for (form, count), measured in seen.rounds.items():
                        rounds.setdefault((peer.name, form, count), []).append(measured)
                figures += [
                    figure(peer.name, "cold start", "s", starts),
                    figure(peer.name, "memory (PSS)", "MB", [each.pss / _MB for each in memories]),
                    figure(peer.name, "memory (USS)", "MB", [each.uss / _MB for each in memories]),
                    figure(peer.name, "processes", "", [each.processes for each in memories]),
                ]
    method = settings.method(None)
    return occasion.report(NAME, QUESTION, method, servers, figures, _points(rounds), _NOTES)


def _points(rounds: Mapping[Key, list[Round]]) -> list[Point]:
    """Each model's points beside its own with one worker."""
    found = []
    for model in _MODELS:
        own = {key: each for key, each in rounds.items() if f", {model}, " in key[0]}
        found += to_points(own, _server(model, 1))
    return found


def _server(model: str, workers: int | None) -> str:
    return f"modelyard, {model}, {workers or 1} worker{'' if workers in (None, 1) else 's'}"
