"""MLServer, Seldon's Python server."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.environment import Environment
from benchmarks.forms import v2_grpc, v2_json
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, Ports
from benchmarks.peers.service import PROCESSES, SERVICES, own_folder, settings
from benchmarks.processes import free_port

_ENVIRONMENT = Environment("mlserver")
_VERSION = _ENVIRONMENT.version("mlserver")


@dataclass(frozen=True)
class MlServer:
    """In its own process for small models, which is faster there than its pool of workers."""

    name: str = "mlserver"
    what: str = (
        f"MLServer {_VERSION}: custom runtime, in process (for small models faster than its pool); "
        f"for the encoder {PROCESSES} parallel workers"
    )

    def forms(self, model: Model) -> Sequence[Form]:
        """Version 2 in JSON and over gRPC."""
        return v2_json(f"/v2/models/{model.name}/infer"), v2_grpc(model.name)

    def prepare(self, model: Model, folder: Path) -> None:
        """Install it."""
        _ENVIRONMENT.ensure()

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """`mlserver start` on a folder with two settings files."""
        place = own_folder(folder, "mlserver")
        workers = PROCESSES if model.name == "encoder" else 0
        server = {
            "host": "127.0.0.1",
            "http_port": ports.http,
            "grpc_port": ports.grpc,
            "metrics_port": free_port(),
            "parallel_workers": workers,
            "debug": False,
            "use_structured_logging": False,
        }
        (place / "settings.json").write_bytes(orjson.dumps(server))
        served = {"name": model.name, "implementation": "mlserver_model.Onnx"}
        (place / "model-settings.json").write_bytes(orjson.dumps(served))
        environment = settings(model, MLSERVER_MODELS_DIR=str(place), PWD=str(SERVICES))
        return Launch([_ENVIRONMENT.program("mlserver"), "start", str(place)], environment, place)
