"""What a benchmark knows of a server: how to start it, how to ask it, how to read its answer."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, TypeAlias

Row: TypeAlias = Mapping[str, float]
"""One row of the table: value by column name, in the order of the columns."""

_TOLERANCE = 1e-5


class WrongAnswer(RuntimeError):
    """A server's answer is not onnxruntime's; nothing of it is worth measuring."""


class NotPrepared(RuntimeError):
    """What a server needs before its first start could not be done; the message says why."""


@dataclass(frozen=True)
class Answer:
    """A class and one probability a class."""

    label: int
    probabilities: Sequence[float]

    def is_close(self, other: "Answer") -> bool:
        """Same class, and probabilities that differ by float32 rounding at most."""
        return (
            self.label == other.label
            and len(self.probabilities) == len(other.probabilities)
            and all(
                math.isclose(mine, theirs, abs_tol=_TOLERANCE)
                for mine, theirs in zip(self.probabilities, other.probabilities, strict=True)
            )
        )


@dataclass(frozen=True)
class Form:
    """One way to write a row into a request and to read the answer."""

    name: str
    path: str
    encode: Callable[[Row], tuple[bytes, Mapping[str, str]]]
    """Body and headers. The headers are the same for every row."""
    decode: Callable[[bytes, Mapping[str, str]], Answer]
    """Reads body and headers; header names in lower case. Any exception means a wrong answer."""


@dataclass(frozen=True)
class Forest:
    """The model of the run on disk, rows to ask, and what onnxruntime answers to each."""

    onnx: Path
    skops: Path
    table: Path
    rows: Sequence[Row]
    answers: Sequence[Answer]


class Peer(Protocol):
    """A server that can be measured."""

    @property
    def name(self) -> str:
        """Short name for tables."""

    @property
    def what(self) -> str:
        """One line: what it is and how it runs."""

    @property
    def forms(self) -> Sequence[Form]:
        """The ways to ask it."""

    def prepare(self, forest: Forest, folder: Path) -> None:
        """Do, once and before any start, what its user does once: publish the model, say.

        Raises `NotPrepared`.
        """

    def launch(self, port: int) -> "Launch":
        """How to start it on this port of the loopback interface."""


@dataclass(frozen=True)
class Launch:
    """A command line and what it needs in its environment."""

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
