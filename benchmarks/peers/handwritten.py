"""The hand-written services as peers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import orjson

from benchmarks.peer import Answer, Forest, Form, Launch, Row
from benchmarks.processes import beside_python

_JSON = {"Content-Type": "application/json"}


def _encode(row: Row) -> tuple[bytes, Mapping[str, str]]:
    return orjson.dumps({"features": list(row.values())}), _JSON


def _decode(body: bytes, _: Mapping[str, str]) -> Answer:
    answer = orjson.loads(body)
    return Answer(answer["label"], answer["probabilities"])


@dataclass
class HandWritten:
    """A service of one file beside this one, run by uvicorn with two workers.

    The access log, which most people leave on, is off: in the service's favour.
    """

    name: str
    what: str
    module: str
    forms: Sequence[Form] = field(
        default_factory=lambda: (Form("json", "/predict", _encode, _decode),)
    )
    model: Path = Path()

    def prepare(self, forest: Forest, folder: Path) -> None:
        """Nothing but to know where the model lies."""
        self.model = forest.onnx

    def launch(self, port: int) -> Launch:
        """uvicorn's own command line."""
        uvicorn = [beside_python("uvicorn"), f"{self.module}:app"]
        place = ["--app-dir", str(Path(__file__).parent), "--host", "127.0.0.1"]
        options = ["--port", str(port), "--workers", "2"]
        quiet = ["--no-access-log", "--log-level", "warning"]
        return Launch([*uvicorn, *place, *options, *quiet], {"MODEL": str(self.model)})


def fastapi_service() -> HandWritten:
    """As most people write it."""
    return HandWritten(
        "fastapi",
        "FastAPI as most write it: pydantic body, def endpoint, onnxruntime; 2 uvicorn workers",
        "fastapi_service",
    )


def fastapi_tuned() -> HandWritten:
    """As somebody writes it who has profiled it."""
    return HandWritten(
        "fastapi-tuned",
        "FastAPI tuned by hand: raw body, orjson, async endpoint, in line; 2 uvicorn workers",
        "fastapi_tuned",
    )
