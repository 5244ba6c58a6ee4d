"""LitServe."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import Environment
from benchmarks.forms import plain_json
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, Ports
from benchmarks.peers.service import PROCESSES, own_folder, program, settings

_ENVIRONMENT = Environment("litserve")
_VERSION = _ENVIRONMENT.version("litserve")
_BATCH = 32


@dataclass(frozen=True)
class LitServe:
    """Two inference workers with batching and two API processes."""

    name: str = "litserve"
    what: str = (
        f"LitServe {_VERSION}: {PROCESSES} workers, batches of up to {_BATCH} within 1 ms "
        "(2 for the encoder), 2 API processes"
    )

    def forms(self, model: Model) -> Sequence[Form]:
        """JSON by name."""
        return (plain_json("/predict"),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Install it."""
        _ENVIRONMENT.ensure()

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """The program."""
        batch = "2" if model.name == "encoder" else str(_BATCH)
        command = [_ENVIRONMENT.python, program("litserve_service.py"), str(ports.http)]
        return Launch(command, settings(model, BATCH=batch), own_folder(folder, "litserve"))
