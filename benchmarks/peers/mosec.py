"""mosec."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import Environment
from benchmarks.forms import plain_bytes, plain_json
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, Ports
from benchmarks.peers.service import PROCESSES, own_folder, program, settings

_ENVIRONMENT = Environment("mosec")
_VERSION = _ENVIRONMENT.version("mosec")
_BATCH = 64
_WAIT_MS = 1
_TIMEOUT_MS = 30_000


@dataclass(frozen=True)
class Mosec:
    """Two workers a route, with dynamic batching where the model gains by it."""

    name: str = "mosec"
    what: str = (
        f"mosec {_VERSION}: {PROCESSES} workers a route; batches of up to {_BATCH} "
        f"within {_WAIT_MS} ms, for the encoder none"
    )

    def forms(self, model: Model) -> Sequence[Form]:
        """JSON by name, and raw bytes."""
        return plain_json("/predict"), plain_bytes("/bytes", model)

    def prepare(self, model: Model, folder: Path) -> None:
        """Install it."""
        _ENVIRONMENT.ensure()

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """The program with mosec's own options."""
        # Its sockets lie in a folder that two servers must not share.
        sockets = own_folder(folder, "mosec") / "sockets"
        where = ["--address", "127.0.0.1", "--port", str(ports.http), "--path", str(sockets)]
        options = ["--timeout", str(_TIMEOUT_MS), "--capacity", "1024", "--log-level", "warning"]
        batch = "1" if model.name == "encoder" else str(_BATCH)
        return Launch(
            [_ENVIRONMENT.python, program("mosec_service.py"), *where, *options],
            settings(model, BATCH=batch, WAIT_MS=str(_WAIT_MS)),
        )
