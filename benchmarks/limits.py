"""What is the most that a server in Python could reach here, with these models and this machine?"""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.in_process import measure_batches
from benchmarks.measure import measure_server
from benchmarks.model import Model, make_model, with_one_answer
from benchmarks.peers.limits import HttpEcho
from benchmarks.results import Figure, Report, Round, figure
from benchmarks.run import Key, Occasion, Say, Settings, to_points

NAME = "limits"
QUESTION = (
    "What bounds a server in Python: each model alone in one thread, "
    "and the smallest HTTP server with no model at all?"
)
_MODELS = ("forest", "net", "encoder")


def run(settings: Settings, say: Say) -> Report:
    """Measure; about a minute."""
    occasion = Occasion.now()
    figures: list[Figure] = []
    rounds: dict[Key, list[Round]] = {}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for name in _MODELS[:1] if settings.quick else _MODELS:
            say(f"making the {name}")
            model = make_model(name, folder)
            figures += _alone(model, settings, say)
            if name == "forest":
                rounds = _echo(model, folder, settings, say)
    servers = {
        "onnxruntime": "onnxruntime in process, one thread, no server",
        HttpEcho().name: HttpEcho().what,
    }
    points = to_points(rounds, None)
    return occasion.report(NAME, QUESTION, settings.method(None), servers, figures, points)


def _alone(model: Model, settings: Settings, say: Say) -> list[Figure]:
    speeds: dict[str, list[float]] = {}
    for _ in range(settings.rounds):
        for size, speed in measure_batches(model, settings.seconds).items():
            speeds.setdefault(size, []).append(speed)
            say(f"  {model.name}, batches of {size}: {speed:,.0f} rows/s")
    return [
        figure(f"onnxruntime, {model.name}", f"batches of {size}", "rows/s", seen)
        for size, seen in speeds.items()
    ]


def _echo(model: Model, folder: Path, settings: Settings, say: Say) -> dict[Key, list[Round]]:
    peer = HttpEcho()
    echoing = with_one_answer(model)
    peer.prepare(echoing, folder)
    rounds: dict[Key, list[Round]] = {}
    for _ in range(settings.rounds):
        seen = measure_server(
            peer,
            echoing,
            folder,
            peer.forms(echoing),
            settings.connections,
            seconds=settings.seconds,
            warm_up_s=settings.warm_up_s,
            say=say,
        )
        for (form, count), measured in seen.rounds.items():
            rounds.setdefault((peer.name, form, count), []).append(measured)
    return rounds
