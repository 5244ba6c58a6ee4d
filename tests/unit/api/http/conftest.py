"""A real server over runtimes made of numpy functions, and a raw socket to talk to it."""

import socket
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Unavailable
from modelyard.core.ports import Arrays
from modelyard.core.signature import Column, Signature, TensorSpec
from modelyard.testing.serving import FunctionRuntime, Serving, serving

TABLE = Signature(
    (
        TensorSpec(
            "input",
            Datatype.FP32,
            (-1, 2),
            (Column("age", Datatype.FP32), Column("income", Datatype.FP32, nullable=True)),
        ),
        TensorSpec(
            "city",
            Datatype.BYTES,
            (-1, 1),
            (Column("city", Datatype.BYTES, categories=("Rome", "Oslo")),),
        ),
    ),
    (
        TensorSpec("label", Datatype.BYTES, (-1,)),
        TensorSpec(
            "probabilities",
            Datatype.FP32,
            (-1, 2),
            (Column("old", Datatype.FP32), Column("young", Datatype.FP32)),
        ),
    ),
    task="classification",
)
VECTOR = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 3)),), (TensorSpec("y", Datatype.FP32, (-1, 3)),)
)


def tell_age(inputs: Arrays) -> Arrays:
    old = inputs["input"][:, 0] >= 50
    probability = np.where(old, 0.75, 0.25).astype(np.float32)
    return {
        "label": np.where(old, "old", "young").astype(object),
        "probabilities": np.stack([probability, 1 - probability], axis=1),
    }


def refuse(inputs: Arrays) -> Arrays:
    raise RuntimeError("secret detail")


def unavailable(inputs: Arrays) -> Arrays:
    raise Unavailable("queue_full", "later", retry_after_s=0.2)


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    runtimes = {
        "people": FunctionRuntime(TABLE, tell_age),
        "vector": FunctionRuntime(VECTOR, lambda inputs: {"y": inputs["x"] * 2}),
        "broken": FunctionRuntime(VECTOR, refuse),
        "busy": FunctionRuntime(VECTOR, unavailable),
    }
    with serving(runtimes, max_body_bytes=1024 * 1024) as running:
        yield running


class Wire:
    """A TCP connection to a server, for requests that no HTTP client would send."""

    def __init__(self, url: str) -> None:
        host, port = url.removeprefix("http://").split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def response(self) -> tuple[int, dict[str, str], bytes]:
        """The next response: status, headers, body. Raises EOFError when the server has closed."""
        while b"\r\n\r\n" not in self._received:
            self._more()
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        length = int(headers.get("content-length", 0))
        while len(self._received) < length:
            self._more()
        body, self._received = self._received[:length], self._received[length:]
        return int(status.split()[1]), headers, body

    def _more(self) -> None:
        piece = self._socket.recv(65536)
        if not piece:
            raise EOFError
        self._received += piece

    def ends(self) -> bool:
        """Whether nothing more comes before the server closes."""
        return not self._received and not self._socket.recv(1)

    def shut(self) -> None:
        """Send no more, but go on reading."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def connect(server: Serving) -> Iterator[Callable[[], Wire]]:
    wires: list[Wire] = []

    def make() -> Wire:
        wires.append(Wire(server.url))
        return wires[-1]

    yield make
    for wire in wires:
        wire.close()
