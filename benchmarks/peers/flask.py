"""Flask behind gunicorn."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import Environment
from benchmarks.forms import plain_json
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, Ports
from benchmarks.peers.service import PROCESSES, SERVICES, settings

_ENVIRONMENT = Environment("flask")
_VERSION = _ENVIRONMENT.version("flask")
_THREADS = 4


@dataclass(frozen=True)
class Flask:
    """gunicorn's threaded workers, so that connections are kept alive."""

    name: str = "flask"
    what: str = f"Flask {_VERSION} + gunicorn: {PROCESSES} workers of {_THREADS} threads (gthread)"

    def forms(self, model: Model) -> Sequence[Form]:
        """JSON by name."""
        return (plain_json("/predict"),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Install it."""
        _ENVIRONMENT.ensure()

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """gunicorn's own command line."""
        gunicorn = [_ENVIRONMENT.program("gunicorn"), "flask_service:app"]
        place = ["--chdir", str(SERVICES), "--bind", f"127.0.0.1:{ports.http}"]
        workers = ["--workers", str(PROCESSES), "--threads", str(_THREADS)]
        options = ["--worker-class", "gthread", "--keep-alive", "30", "--log-level", "warning"]
        return Launch([*gunicorn, *place, *workers, *options], settings(model))
