"""A small exchange over numpy functions, and a gRPC server over it on a loop of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grpc
import numpy as np
import pytest

from modelyard.api.grpc.server import GrpcServer
from modelyard.core.call import Call
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import ModelyardError, NotFound
from modelyard.core.ports import NO_HEADERS, Headers, Listing, Served
from modelyard.core.signature import Column, Signature, TensorSpec
from modelyard.gateway.open_access import OpenAccess

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
T = TypeVar("T")
Function = Callable[[Mapping[str, Array]], dict[str, Array]]


@dataclass
class Model:
    model: str
    signature: Signature
    function: Function
    version: int = 1
    digest: str = "sha256:00"
    platform: str = "numpy"
    sample: None = None
    cache: dict[str, Any] = field(default_factory=dict)


@dataclass
class NumpyExchange:
    """Answers every call in the next turn of the loop; `held` models only when let go."""

    models: dict[str, Model] = field(default_factory=dict)
    held: dict[str, list[Call]] = field(default_factory=dict)
    arrived: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def find(self, model: str, version: str | None = None, headers: Headers = NO_HEADERS) -> Model:
        found = self.models.get(model)
        if found is None or version not in (None, str(found.version)):
            raise NotFound("unknown_model", f"no model '{model}' is deployed here", field="model")
        return found

    def serves(self, served: Served) -> bool:
        return True

    def submit(self, call: Call) -> None:
        if call.served.model in self.held:
            self.held[call.served.model].append(call)
            self.arrived.release()
        else:
            asyncio.get_running_loop().call_soon(self._run, call)

    def _run(self, call: Call) -> None:
        try:
            call.answer(self.models[call.served.model].function(call.inputs))
        except ModelyardError as error:
            call.fail(error)

    def listings(self) -> Sequence[Listing]:
        ready = [Listing(each.model, each.version, ready=True) for each in self.models.values()]
        return [*ready, Listing("absent", 7, ready=False, reason="no such file")]

    def is_ready(self) -> bool:
        return True


@dataclass
class Running:
    """A server that listens, its exchange, and the way onto its loop."""

    exchange: NumpyExchange
    address: str
    loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.begin(work).result(30)

    def begin(self, work: Coroutine[Any, Any, T]) -> "Future[T]":
        return asyncio.run_coroutine_threadsafe(work, self.loop)


def echo_model(datatype: Datatype, axes: int) -> Model:
    spec = TensorSpec("x", datatype, (-1,) * axes)
    signature = Signature((spec,), (TensorSpec("y", datatype, (-1,) * axes),), batched=False)
    return Model(f"echo_{datatype}_{axes}", signature, lambda inputs: {"y": inputs["x"]})


def _sums(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {
        "total": (inputs["a"] + inputs["b"]).sum(axis=1),  # type: ignore[operator]
        "first": inputs["a"][:, 0],
    }


def _halve(inputs: Mapping[str, Array]) -> dict[str, Array]:
    return {"half": inputs["x"].astype(np.float16)}


def _crash(_: Mapping[str, Array]) -> dict[str, Array]:
    return {"wrong": np.zeros(1, np.float32)}


def _models() -> list[Model]:
    fp32, two = Datatype.FP32, (-1, 2)
    sums = Signature(
        (TensorSpec("a", fp32, two), TensorSpec("b", fp32, two)),
        (TensorSpec("total", fp32, (-1,)), TensorSpec("first", fp32, (-1,))),
    )
    one = Signature((TensorSpec("x", fp32, (-1,)),), (TensorSpec("y", fp32, (-1,)),))
    half = Signature(one.inputs, (TensorSpec("half", Datatype.FP16, (-1,)),))
    columns = (
        Column("größe", fp32),
        Column("colour", Datatype.BYTES, categories=("red", "blue")),
    )
    table = Signature(
        (
            TensorSpec("n", fp32, (-1, 1), (columns[0],)),
            TensorSpec("s", Datatype.BYTES, (-1, 1), (columns[1],)),
        ),
        (TensorSpec("label", Datatype.BYTES, (-1,)),),
    )
    constant = Signature((), (TensorSpec("y", fp32, (1,)),), batched=False)
    return [
        Model("sums", sums, _sums, version=3),
        Model("half", half, _halve),
        Model("crash", one, _crash),
        Model("held", one, lambda inputs: {"y": inputs["x"]}),
        Model("table", table, lambda inputs: {"label": inputs["s"][:, 0]}),
        Model("constant", constant, lambda _: {"y": np.ones(1, np.float32)}),
        *(echo_model(datatype, axes) for datatype in Datatype for axes in range(4)),
    ]


@pytest.fixture(scope="session")
def running() -> Iterator[Running]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    exchange = NumpyExchange({model.model: model for model in _models()}, {"held": []})
    server = GrpcServer(
        exchange, access=OpenAccess(), host="127.0.0.1", port=0, max_message_bytes=MAX_MESSAGE_BYTES
    )

    def wait(work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    port = wait(server.start())
    yield Running(exchange, f"127.0.0.1:{port}", loop)
    wait(server.stop(1.0))
    loop.call_soon_threadsafe(loop.stop)
    thread.join(10)
    loop.close()


@pytest.fixture(scope="session")
def channel(running: Running) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(running.address) as channel:
        yield channel
