"""KServe's Python server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import Environment
from benchmarks.forms import v1_json, v2_binary, v2_grpc, v2_json
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, Ports
from benchmarks.peers.service import PROCESSES, program, settings

_ENVIRONMENT = Environment("kserve")
_VERSION = _ENVIRONMENT.version("kserve")


@dataclass(frozen=True)
class KServe:
    """A custom predictor with a worker a core; gRPC is answered by the first process alone."""

    name: str = "kserve"
    what: str = f"KServe's Python server {_VERSION}: custom predictor, {PROCESSES} workers"

    def forms(self, model: Model) -> Sequence[Form]:
        """Version 1, version 2 in both ways, and gRPC."""
        path = f"/v2/models/{model.name}/infer"
        return (
            v2_json(path),
            v1_json(f"/v1/models/{model.name}:predict", model),
            v2_binary(path),
            v2_grpc(model.name),
        )

    def prepare(self, model: Model, folder: Path) -> None:
        """Install it."""
        _ENVIRONMENT.ensure()

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """The program with KServe's own options."""
        where = ["--http_port", str(ports.http), "--grpc_port", str(ports.grpc)]
        workers = ["--workers", str(PROCESSES), "--enable_docs_url", "false"]
        quiet = ["--configure_logging", "false", "--access_log_format", ""]
        command = [_ENVIRONMENT.python, program("kserve_service.py"), *where, *workers, *quiet]
        return Launch(command, settings(model))
