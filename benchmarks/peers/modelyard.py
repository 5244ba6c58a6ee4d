"""Modelyard as a peer, through its command line only: import, deploy, serve."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.forms import row_json, v2_binary, v2_grpc, v2_json
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, NotPrepared, Ports
from benchmarks.peers.service import own_folder
from benchmarks.processes import beside_python


def default_workers() -> int:
    """The processes that `modelyard serve` answers with when it is told nothing."""
    return psutil.cpu_count() or 1


@dataclass(frozen=True)
class Modelyard:
    """`modelyard serve --open` on a home of its own; `workers` None leaves their number to it.

    Open, as the servers that it is compared with ask for no keys either.
    """

    workers: int | None = None
    name: str = "modelyard"

    @property
    def what(self) -> str:
        """With its number of workers."""
        if self.workers is None:
            return f"Modelyard as it comes; workers: {default_workers()}"
        return f"Modelyard; workers: {self.workers}"

    def forms(self, model: Model) -> Sequence[Form]:
        """Version 2 in both ways and over gRPC; for a table also its plain row."""
        path = f"/v2/models/{model.name}/infer"
        rows = [row_json(f"/predict/{model.name}", model)] if model.columns else []
        return (v2_json(path), *rows, v2_binary(path), v2_grpc(model.name))

    def prepare(self, model: Model, folder: Path) -> None:
        """Import the model and deploy it. Raises `NotPrepared`."""
        done = self.home(folder).with_suffix(".prepared")
        if done.exists():
            return
        sample = [] if model.sample is None else ["--sample", str(model.sample)]
        self._run(folder, "import", str(model.source), "--name", model.name, *sample)
        self._run(folder, "deploy", model.name)
        done.touch()

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """The command that a user types."""
        where = ["--port", str(ports.http), "--grpc-port", str(ports.grpc)]
        workers = [] if self.workers is None else ["--workers", str(self.workers)]
        return Launch([*self._program(folder), "serve", "--open", *where, *workers])

    def home(self, folder: Path) -> Path:
        """One home for all numbers of workers: what is deployed does not depend on them."""
        return own_folder(folder, "modelyard") / "home"

    def _program(self, folder: Path) -> list[str]:
        return [beside_python("modelyard"), "--home", str(self.home(folder))]

    def _run(self, folder: Path, *arguments: str) -> str:
        done = subprocess.run(
            [*self._program(folder), *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise NotPrepared(
                f"modelyard {' '.join(arguments)} ended with status {done.returncode}:\n"
                f"{done.stdout}{done.stderr}"
            )
        return done.stdout
