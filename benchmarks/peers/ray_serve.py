"""Ray Serve."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import Environment
from benchmarks.forms import plain_json
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, Ports
from benchmarks.peers.service import PROCESSES, program, settings

_ENVIRONMENT = Environment("ray")
_VERSION = _ENVIRONMENT.version("ray")


@dataclass(frozen=True)
class RayServe:
    """One node on the loopback address, two replicas with batching."""

    name: str = "ray-serve"
    what: str = f"Ray Serve {_VERSION}: {PROCESSES} replicas, @serve.batch of up to 64 within 1 ms"

    def forms(self, model: Model) -> Sequence[Form]:
        """JSON by name."""
        return (plain_json("/predict"),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Install it."""
        _ENVIRONMENT.ensure()

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """The program; Ray binds its own ports to the loopback address only."""
        return Launch(
            [_ENVIRONMENT.python, program("ray_service.py"), str(ports.http)],
            settings(
                model,
                RAY_USAGE_STATS_ENABLED="0",
                RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
                RAY_SERVE_LOG_TO_STDERR="0",
            ),
        )
