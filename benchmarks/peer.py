"""What a benchmark knows of a server: how to start it, how to ask it, how to read its answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from benchmarks.model import Model, Tensors


class WrongAnswer(RuntimeError):
    """A server's answer is not onnxruntime's; nothing of it is worth measuring."""


class NotPrepared(RuntimeError):
    """What a server needs before its first start could not be done; the message says why."""


@dataclass(frozen=True)
class Form:
    """One way to write a row into a request and to read the answer."""

    name: str
    path: str
    """Of the URL; over gRPC, of the method."""
    encode: Callable[[Tensors], tuple[bytes, Mapping[str, str]]]
    """Body and headers. The headers are the same for every row."""
    decode: Callable[[bytes, Mapping[str, str]], Tensors]
    """Reads body and headers; header names in lower case. Any exception means a wrong answer."""
    protocol: Literal["http", "grpc"] = "http"


@dataclass(frozen=True)
class Ports:
    """Where a server listens, on the loopback interface only."""

    http: int
    grpc: int

    def of(self, form: Form) -> int:
        """The port that a form is sent to."""
        return self.grpc if form.protocol == "grpc" else self.http


@dataclass(frozen=True)
class Launch:
    """A command line, what it needs in its environment, and where it runs."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


class Peer(Protocol):
    """A server that can be measured."""

    @property
    def name(self) -> str:
        """Short name for tables."""

    @property
    def what(self) -> str:
        """One line: what it is and how it runs."""

    def forms(self, model: Model) -> Sequence[Form]:
        """The ways to ask it for this model; the first one is asked to see whether it is up."""

    def prepare(self, model: Model, folder: Path) -> None:
        """Do, once and before any start, what its user does once: install, publish the model.

        Raises `NotPrepared`.
        """

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        """How to start it on these ports of the loopback interface, after `prepare`."""
