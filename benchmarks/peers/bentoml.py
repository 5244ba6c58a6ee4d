"""BentoML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from benchmarks.environment import Environment
from benchmarks.forms import JSON
from benchmarks.model import Model, Tensors
from benchmarks.peer import Form, Launch, Ports
from benchmarks.peers.service import PROCESSES, SERVICES, own_folder, settings

_ENVIRONMENT = Environment("bentoml")
_VERSION = _ENVIRONMENT.version("bentoml")


@dataclass(frozen=True)
class BentoMl:
    """Two workers with adaptive batching; its proxy process in front."""

    name: str = "bentoml"
    what: str = f"BentoML {_VERSION}: {PROCESSES} workers, adaptive batching"

    def forms(self, model: Model) -> Sequence[Form]:
        """JSON rows under the name of the method's parameter."""
        return (Form("json", "/predict", _encode, _decode),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Install it."""
        _ENVIRONMENT.ensure()

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """`bentoml serve`."""
        home = own_folder(folder, "bentoml")
        serve = [_ENVIRONMENT.python, "-m", "bentoml", "serve", "bentoml_service:Service"]
        where = ["--working-dir", str(SERVICES), "--host", "127.0.0.1", "--port", str(ports.http)]
        return Launch(
            [*serve, *where],
            settings(model, BENTOML_HOME=str(home), BENTOML_DO_NOT_TRACK="True"),
        )


def _encode(inputs: Tensors) -> tuple[bytes, Mapping[str, str]]:
    row = {name: array[0].tolist() for name, array in inputs.items()}
    return orjson.dumps({"rows": [row]}), JSON


def _decode(body: bytes, _: Mapping[str, str]) -> Tensors:
    return {name: np.asarray([value]) for name, value in orjson.loads(body)[0].items()}
