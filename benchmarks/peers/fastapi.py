"""The hand-written FastAPI services: as most people write them, and tuned."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import Environment
from benchmarks.forms import plain_json
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, Ports
from benchmarks.peers.service import PROCESSES, SERVICES, settings

_ENVIRONMENT = Environment("fastapi")
_VERSION = _ENVIRONMENT.version("fastapi")


@dataclass(frozen=True)
class FastApi:
    """A service of one file, run by uvicorn.

    The access log, which most people leave on, is off: in the service's favour.
    """

    name: str = "fastapi"
    what: str = (
        f"FastAPI {_VERSION} as most write it: pydantic body, def endpoint, onnxruntime; "
        f"{PROCESSES} uvicorn workers"
    )
    module: str = "fastapi_plain"

    def forms(self, model: Model) -> Sequence[Form]:
        """JSON by name."""
        return (plain_json("/predict"),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Install it."""
        _ENVIRONMENT.ensure()

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """uvicorn's own command line."""
        uvicorn = [_ENVIRONMENT.program("uvicorn"), f"{self.module}:app"]
        place = ["--app-dir", str(SERVICES), "--host", "127.0.0.1", "--port", str(ports.http)]
        options = ["--workers", str(PROCESSES), "--no-access-log", "--log-level", "warning"]
        return Launch([*uvicorn, *place, *options], settings(model))


def fastapi_tuned() -> FastApi:
    """As somebody writes it who has profiled it."""
    return FastApi(
        "fastapi-tuned",
        f"FastAPI {_VERSION} tuned by hand: raw body, orjson, async endpoint, in line; "
        f"{PROCESSES} uvicorn workers",
        "fastapi_tuned",
    )
