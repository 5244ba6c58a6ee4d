"""MLflow's scoring server."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import Environment
from benchmarks.forms import invocations
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, NotPrepared, Ports
from benchmarks.peers.service import PROCESSES, own_folder, program, settings

_ENVIRONMENT = Environment("mlflow")
_VERSION = _ENVIRONMENT.version("mlflow")


@dataclass(frozen=True)
class MlFlow:
    """`mlflow models serve` of the ONNX flavour."""

    name: str = "mlflow"
    what: str = f"MLflow {_VERSION} models serve: ONNX flavour, {PROCESSES} workers"

    def forms(self, model: Model) -> Sequence[Form]:
        """Its `inputs` form."""
        return (invocations("/invocations"),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Install it and log the model. Raises `NotPrepared`."""
        _ENVIRONMENT.ensure()
        place = own_folder(folder, "mlflow") / "model"
        shutil.rmtree(place, ignore_errors=True)
        command = [_ENVIRONMENT.python, program("mlflow_model.py"), str(model.onnx), str(place)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
        if done.returncode != 0:
            raise NotPrepared(f"mlflow could not log the model:\n{done.stderr[-1500:]}")

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """`mlflow models serve`, in the environment that is there."""
        place = own_folder(folder, "mlflow")
        serve = [_ENVIRONMENT.python, "-m", "mlflow", "models", "serve"]
        what = ["--model-uri", str(place / "model"), "--env-manager", "local"]
        where = ["--host", "127.0.0.1", "--port", str(ports.http), "--workers", str(PROCESSES)]
        path = f"{Path(_ENVIRONMENT.python).parent}:/usr/local/bin:/usr/bin:/bin"
        return Launch([*serve, *what, *where], settings(model, PATH=path), place)
