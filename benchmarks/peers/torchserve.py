"""TorchServe, which needs a Java runtime."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.environment import Environment
from benchmarks.forms import plain_json
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, NotPrepared, Ports
from benchmarks.peers.service import PROCESSES, own_folder, program, settings
from benchmarks.processes import free_port

_ENVIRONMENT = Environment("torchserve")
_VERSION = _ENVIRONMENT.version("torchserve")
_BATCH = 32


@dataclass(frozen=True)
class TorchServe:
    """A custom handler, two workers, batching."""

    name: str = "torchserve"
    what: str = (
        f"TorchServe {_VERSION}: custom handler, {PROCESSES} workers, "
        f"batches of up to {_BATCH} within 1 ms"
    )

    def forms(self, model: Model) -> Sequence[Form]:
        """JSON by name."""
        return (plain_json(f"/predictions/{model.name}"),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Install it and archive the model. Raises `NotPrepared`."""
        if shutil.which("java") is None:
            raise NotPrepared(
                "no Java runtime; on Debian and Ubuntu: apt-get install -y default-jre-headless"
            )
        _ENVIRONMENT.ensure()
        place = own_folder(folder, "torchserve")
        archiver = [_ENVIRONMENT.program("torch-model-archiver"), "--model-name", model.name]
        what = ["--version", "1.0", "--handler", program("torchserve_handler.py")]
        extra = ["--extra-files", program("served.py"), "--export-path", str(place), "--force"]
        done = subprocess.run(
            [*archiver, *what, *extra], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NotPrepared(f"torch-model-archiver failed:\n{done.stderr[-1500:]}")

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """`torchserve --foreground` with a configuration of its own."""
        place = own_folder(folder, "torchserve")
        archive = f"{model.name}.mar"
        workers = {
            "marName": archive,
            "minWorkers": PROCESSES,
            "maxWorkers": PROCESSES,
            "batchSize": 2 if model.name == "encoder" else _BATCH,
            "maxBatchDelay": 1,
            "defaultVersion": True,
            "responseTimeout": 60,
        }
        config = {
            "inference_address": f"http://127.0.0.1:{ports.http}",
            "management_address": f"http://127.0.0.1:{free_port()}",
            "metrics_address": f"http://127.0.0.1:{free_port()}",
            "grpc_inference_address": "127.0.0.1",
            "grpc_inference_port": str(ports.grpc),
            "grpc_management_address": "127.0.0.1",
            "grpc_management_port": str(free_port()),
            "model_store": str(place),
            "load_models": archive,
            "disable_token_authorization": "true",
            "disable_system_metrics": "true",
            "job_queue_size": "1000",
            "models": orjson.dumps({model.name: {"1.0": workers}}).decode(),
        }
        lines = "\n".join(f"{key}={value}" for key, value in config.items())
        (place / "config.properties").write_text(lines, "utf-8")
        start = [_ENVIRONMENT.program("torchserve"), "--start", "--foreground", "--ncs"]
        files = ["--ts-config", str(place / "config.properties"), "--model-store", str(place)]
        path = f"{Path(_ENVIRONMENT.python).parent}:/usr/local/bin:/usr/bin:/bin"
        environment = settings(model, PATH=path, LOG_LOCATION=str(place), TEMP=str(place))
        return Launch([*start, *files], environment, place)
