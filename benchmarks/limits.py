"""What is the most that a server in Python could reach here, with this model and this machine?"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from subprocess import run as run_process
from tempfile import TemporaryDirectory

import orjson

from benchmarks.forest import make_forest
from benchmarks.peer import Answer, Forest, Form, Launch, Row
from benchmarks.results import Figure, Report, figure
from benchmarks.run import Occasion, Say, Settings, chosen, measure_load

NAME = "limits"
QUESTION = (
    "What bounds a server in Python: the model alone in one thread, "
    "and the smallest HTTP server with no model at all?"
)
_PEERS = Path(__file__).parent / "peers"
ECHO = Answer(1, (0.009999999776482582, 0.9900000095367432))
"""What the echo answers, whatever it is asked."""


def _encode(row: Row) -> tuple[bytes, Mapping[str, str]]:
    body = orjson.dumps({"features": list(row.values())})
    return body, {"Content-Type": "application/json"}


def _decode(body: bytes, _: Mapping[str, str]) -> Answer:
    answer = orjson.loads(body)
    return Answer(answer["label"], answer["probabilities"])


@dataclass(frozen=True)
class Echo:
    """The smallest HTTP server, one process; its one right answer is always the same."""

    name: str = "echo"
    what: str = "asyncio protocol on httptools and uvloop, fixed answer, no model; one process"
    forms: Sequence[Form] = (Form("json", "/", _encode, _decode),)

    def prepare(self, forest: Forest, folder: Path) -> None:
        """Nothing to prepare."""

    def launch(self, port: int) -> Launch:
        """One file, one process."""
        return Launch([sys.executable, str(_PEERS / "echo.py"), str(port)])


def run(settings: Settings, say: Say) -> Report:
    """Measure; about a minute."""
    occasion = Occasion.now()
    peers = chosen([Echo()], settings, None)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        say("training and converting the forest")
        forest = make_forest(folder)
        figures = _measure_model(forest, settings, say)
        echoing = replace(forest, answers=[ECHO] * len(forest.rows))
        points = measure_load(peers, echoing, folder, settings, baseline=None, say=say)
    return Report(
        benchmark=NAME,
        question=QUESTION,
        command=occasion.command,
        date=occasion.date,
        machine=occasion.machine,
        commit=occasion.commit,
        method=settings.method(None),
        servers={
            "onnxruntime": "onnxruntime in process, one thread, no server",
            **{peer.name: peer.what for peer in peers},
        },
        figures=figures,
        points=points,
    )


def _measure_model(forest: Forest, settings: Settings, say: Say) -> list[Figure]:
    cases = forest.onnx.parent / "cases.json"
    script = [sys.executable, str(_PEERS / "in_process.py")]
    command = [*script, str(forest.onnx), str(cases), str(settings.seconds)]
    rounds: dict[str, list[float]] = {}
    for number in range(1, settings.rounds + 1):
        done = run_process(command, check=True, capture_output=True)
        for size, speed in orjson.loads(done.stdout).items():
            rounds.setdefault(size, []).append(speed)
            say(f"round {number}/{settings.rounds}: batches of {size}: {speed:,.0f} rows/s")
    return [
        figure("onnxruntime", f"batches of {size}", "rows/s", speeds)
        for size, speeds in rounds.items()
    ]
