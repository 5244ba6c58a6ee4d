"""The smallest servers: what no server of their kind can beat."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.forms import encode_grpc_answer, plain_json, v2_grpc
from benchmarks.model import Model
from benchmarks.peer import Form, Launch, Ports
from benchmarks.peers.service import PROCESSES, own_folder, program, settings

ECHOES = frozenset({"echo", "grpc-echo"})
"""Servers whose one right answer is always the same."""


@dataclass(frozen=True)
class BareClass:
    """A protocol class that runs the model, and does nothing else that a server must."""

    name: str = "bare-class"
    what: str = (
        "limit: a protocol class on httptools and orjson, one batch a turn, in line, no checks; "
        f"{PROCESSES} processes"
    )

    def forms(self, model: Model) -> Sequence[Form]:
        """JSON by name."""
        return (plain_json("/"),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Nothing to prepare."""

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """One file, two processes on one port."""
        command = [sys.executable, program("bare_class.py"), str(ports.http), str(PROCESSES)]
        return Launch(command, settings(model))


@dataclass(frozen=True)
class HttpEcho:
    """Answers before it has read the question; the model must be told to expect that."""

    name: str = "echo"
    what: str = "limit: a protocol on httptools and uvloop, fixed answer, no model; one process"

    def forms(self, model: Model) -> Sequence[Form]:
        """JSON by name."""
        return (plain_json("/"),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Write the one answer that it gives."""
        answer = {name: array[0].tolist() for name, array in model.cases[0].outputs.items()}
        self._answer(folder).write_bytes(orjson.dumps(answer))

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """One file, one process."""
        answer = str(self._answer(folder))
        return Launch([sys.executable, program("http_echo.py"), str(ports.http), answer])

    def _answer(self, folder: Path) -> Path:
        return own_folder(folder, self.name) / "answer.json"


@dataclass(frozen=True)
class GrpcEcho:
    """grpc.aio with one fixed answer, in a given number of processes."""

    processes: int
    name: str = "grpc-echo"

    @property
    def what(self) -> str:
        """With its number of processes."""
        return (
            "limit: grpc.aio, fixed answer, no message parsed, no model; "
            f"processes: {self.processes}"
        )

    def forms(self, model: Model) -> Sequence[Form]:
        """Version 2 over gRPC, as far as bytes go."""
        return (v2_grpc(model.name),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Write the one answer that it gives."""
        self._answer(folder).write_bytes(encode_grpc_answer(model.cases[0].outputs))

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """One file, as many processes on one port."""
        (form,) = self.forms(model)
        size = [str(ports.grpc), str(self.processes)]
        answer = str(self._answer(folder))
        command = [sys.executable, program("grpc_echo.py"), *size, answer, form.path]
        return Launch(command, settings(model))

    def _answer(self, folder: Path) -> Path:
        return own_folder(folder, self.name) / "answer"
