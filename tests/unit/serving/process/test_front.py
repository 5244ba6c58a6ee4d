"""The two ends of a connection in one process: what either does with a peer that is broken."""

import asyncio
import contextlib
import os
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from modelyard.core.call import Call, Outcome
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Internal, ModelyardError
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature, TensorSpec
from modelyard.gateway.open_gate import OpenGate
from modelyard.serving.cost import BatchCost
from modelyard.serving.endpoint import Endpoint, Identity
from modelyard.serving.process.backend import RemoteBackend
from modelyard.serving.process.front import Front
from modelyard.serving.process.messages import (
    PROTOCOL,
    Answers,
    Asked,
    Ended,
    Forget,
    Run,
    Tensor,
    Welcome,
    decode_question,
    encode,
)
from modelyard.serving.process.notes import Notes
from modelyard.serving.process.ring import make_memory
from modelyard.serving.scheduler import Limits, Scheduler
from modelyard.serving.statistics import Statistics
from modelyard.testing.serving import LIMITS, FunctionRuntime

ROWS = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 1)),), (TensorSpec("y", Datatype.FP32, (-1, 1)),)
)
HELLO = struct.pack("<4sI", b"myrd", PROTOCOL)
IDENTITY = Identity(model="model", version=1, digest="sha256:test", platform="test", signature=ROWS)


def double(inputs: Arrays) -> Arrays:
    if (inputs["x"] == 13).any():
        raise Internal("thirteen", "not that one", field="x")
    return {"y": inputs["x"] * 2}


@dataclass
class Pair:
    """A model's front on a socket, and a worker's endpoint that calls it."""

    path: str
    front: Front
    listener: socket.socket
    endpoint: Endpoint
    runtime: FunctionRuntime


def remote(path: str, left: threading.Event | None = None) -> tuple[Endpoint, RemoteBackend]:
    statistics = Statistics()
    backend = RemoteBackend(
        asyncio.get_running_loop(),
        "model:1",
        path,
        ROWS,
        100,
        statistics,
        (left or threading.Event()).set,
    )
    return Endpoint(IDENTITY, backend, OpenGate(), statistics), backend


@contextlib.asynccontextmanager
async def pair(
    folder: Path,
    function: Callable[[Arrays], Arrays] = double,
    limits: Limits = LIMITS,
) -> AsyncIterator[Pair]:
    path = str(folder / "s")
    runtime = FunctionRuntime(ROWS, function)
    notes, cost = Notes(), BatchCost()
    cost.observe(1, 10.0)
    front = Front(IDENTITY, Scheduler("model:1", runtime, cost, limits, notes), notes)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        front.listen(listener)
        endpoint, backend = remote(path)
        async with asyncio.timeout(30):
            await asyncio.to_thread(backend.open, 10)
            yield Pair(path, front, listener, endpoint, runtime)
            endpoint.retire()
            await front.drain(listener)


async def ask(endpoint: Endpoint, number: float) -> Call:
    ended: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
    call = Call(endpoint, {"x": one(number)}, 1, ended.set_result)
    try:
        endpoint.accept(call)
    except ModelyardError as error:
        call.fail(error)
    return await ended


def one(number: float) -> Array:
    return np.array([[number]], np.float32)


def run(number: int, *tensors: Tensor) -> bytes:
    return framed(encode(Run([Asked(number, list(tensors), 0, None, 0, None)])))


def framed(body: bytes) -> bytes:
    return struct.pack("<I", len(body)) + body


def row_of(data: bytes, shape: tuple[int, ...] = (1, 1)) -> Tensor:
    return Tensor(shape, data)


GOOD = row_of(one(1).tobytes())
NONSENSE = {
    "another hello": [b"GET / HTTP/1.1\r\n\r\n"],
    "another protocol": [struct.pack("<4sI", b"myrd", PROTOCOL + 1)],
    "no msgpack": [HELLO, framed(b"\xc1nonsense")],
    "a reply": [HELLO, framed(encode(Welcome(PROTOCOL, 1)))],
    "a huge frame": [HELLO, struct.pack("<I", 2**32 - 1)],
    "half a frame": [HELLO, run(1, GOOD)[:-3]],
    "a place without memory": [HELLO, run(1, Tensor((1, 1), b"", 0, 64))],
    "too few bytes": [HELLO, run(1, row_of(b"abc"))],
    "a negative length": [HELLO, run(1, row_of(b"", (-1, 1)))],
    "axes without end": [HELLO, run(1, row_of(b"", (2**62, 2**62)))],
    "another rank": [HELLO, run(1, row_of(one(1).tobytes(), (1,)))],
    "other inputs": [HELLO, run(1)],
    "more inputs": [HELLO, run(1, GOOD, GOOD)],
    "forgets a stranger": [HELLO, framed(encode(Forget([1, 2, 3])))],
    "twice the same number": [HELLO, run(1, GOOD) + run(1, GOOD)],
    "nothing at all": [],
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE.keys())
def test_a_broken_worker_disturbs_no_other(tmp_path: Path, said: list[bytes]) -> None:
    """Whatever comes over one connection, calls of another are answered, and none stays open."""

    async def go() -> None:
        async with pair(tmp_path) as both:
            with socket.socket(socket.AF_UNIX) as broken:
                broken.connect(both.path)
                for each in said:
                    broken.sendall(each)
                    # One piece after the other: a hello is a message of its own.
                    assert (await ask(both.endpoint, 2)).outcome is Outcome.OK
            for number in range(10):
                call = await ask(both.endpoint, number)
                assert call.outputs is not None
                assert call.outputs["y"].tolist() == [[2 * number]]

    asyncio.run(go())


@pytest.mark.parametrize(
    "tensor",
    [
        Tensor((1, 1), b"", 2**40, 64),
        Tensor((1, 1), b"", 64 * 1024, 64),
        Tensor((1, 1), b"", 0, 0),
        Tensor((1, 1), b"", 0, 2**50),
    ],
)
def test_a_place_outside_of_the_memory_ends_that_connection(tmp_path: Path, tensor: Tensor) -> None:
    """A worker that points anywhere but into its memory is spoken to no more."""

    async def go() -> None:
        async with pair(tmp_path) as both:
            loop = asyncio.get_running_loop()
            fds = [make_memory(64 * 1024), make_memory(64 * 1024)]
            with socket.socket(socket.AF_UNIX) as broken:
                broken.connect(both.path)
                socket.send_fds(broken, [HELLO], fds)
                broken.settimeout(10)
                await loop.run_in_executor(None, broken.recv, 100)
                broken.sendall(run(1, tensor))
                assert await loop.run_in_executor(None, broken.recv, 100) == b""
            for fd in fds:
                os.close(fd)
            assert (await ask(both.endpoint, 1)).outcome is Outcome.OK

    asyncio.run(go())


def test_a_worker_that_goes_takes_its_calls_along(tmp_path: Path) -> None:
    """What a dead worker had asked is not run if it waited, and its end is told to nobody."""

    async def go() -> None:
        async with pair(tmp_path) as both:
            with socket.socket(socket.AF_UNIX) as gone:
                gone.connect(both.path)
                gone.sendall(HELLO)
                await ask(both.endpoint, 1)
                gone.sendall(run(1, GOOD))
            assert (await ask(both.endpoint, 1)).outcome is Outcome.OK

    asyncio.run(go())


def test_what_runs_there_is_known_to_have_begun(tmp_path: Path) -> None:
    """What waits there is not: who leaves the one has had work done, who leaves the other none."""
    may_end = threading.Event()

    def wait(inputs: Arrays) -> Arrays:
        may_end.wait(10)
        return double(inputs)

    async def go() -> None:
        async with pair(tmp_path, wait, replace(LIMITS, inline_us=0, lanes=1)) as both:
            calls = [Call(both.endpoint, {"x": one(1)}, 1, lambda _: None) for _ in range(2)]
            both.endpoint.accept(calls[0])
            while not calls[0].has_run:
                await asyncio.sleep(0.001)
            both.endpoint.accept(calls[1])
            await asyncio.sleep(0.05)
            for call in calls:
                call.abandon()
            may_end.set()
            assert [call.has_run for call in calls] == [True, False]

    asyncio.run(go())


def test_an_error_comes_back_as_what_it_was(tmp_path: Path) -> None:
    """Kind, code, message and field of an error of ours survive the way back."""

    async def go() -> None:
        async with pair(tmp_path) as both:
            calls = await asyncio.gather(*(ask(both.endpoint, each) for each in (12, 13, 14)))
            assert [call.outcome for call in calls] == [Outcome.OK, Outcome.FAILED, Outcome.OK]
            error = calls[1].error
            assert isinstance(error, Internal)
            assert (error.code, error.message, error.field) == ("thirteen", "not that one", "x")
            assert both.runtime.batches[0] == 3, "what came in one turn is one batch there"

    asyncio.run(go())


def answers(*ended: Ended) -> bytes:
    return encode(Answers(list(ended), [], [], 0, 0, 0, 0.0, 0.0))


ANSWERS: dict[str, Callable[[int], bytes]] = {
    "no msgpack": lambda number: b"\xc1",
    "a question": lambda number: encode(Forget([number])),
    "no outputs": lambda number: answers(Ended(number, [])),
    "too few bytes": lambda number: answers(Ended(number, [row_of(b"abc")])),
    "a place outside": lambda number: answers(Ended(number, [Tensor((1, 1), b"", 2**60, 64)])),
    "a mark that cannot be": lambda number: answers(Ended(number, [Tensor((1, 1), b"", 0, 0)])),
    "nothing more": lambda number: b"",
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS.keys())
def test_a_process_that_answers_nonsense_ends_no_worker(
    tmp_path: Path, answer: Callable[[int], bytes]
) -> None:
    """Its calls end with an error, each once, and the worker goes on."""

    async def go() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(tmp_path / "s"))
            listener.listen()
            endpoint, backend = remote(str(tmp_path / "s"))
            opening = asyncio.ensure_future(asyncio.to_thread(backend.open, 10))
            sock, _ = await loop.run_in_executor(None, listener.accept)
            with sock:
                sock.sendall(framed(encode(Welcome(PROTOCOL, 1))))
                await opening
                assert sock.recv(len(HELLO)) == HELLO
                asking = asyncio.ensure_future(ask(endpoint, 1))
                asked = await loop.run_in_executor(None, sock.recv, 4096)
                question = decode_question(asked[4:])
                assert isinstance(question, Run)
                sock.sendall(framed(answer(question.calls[0].number)))
                call = await asking
            assert call.outcome in (Outcome.REFUSED, Outcome.FAILED)
            assert endpoint.open_calls == 0
            endpoint.retire()

    asyncio.run(go())


def test_leaving_is_told_once(tmp_path: Path) -> None:
    """An endpoint that closes gives up its place, in a thread that may wait for that."""

    async def go() -> None:
        async with pair(tmp_path) as both:
            left = threading.Event()
            endpoint, backend = remote(both.path, left)
            await asyncio.to_thread(backend.open, 10)
            closed = asyncio.Event()
            endpoint.retire(closed.set)
            await closed.wait()
            assert await asyncio.to_thread(left.wait, 10)
            assert (await ask(both.endpoint, 1)).outcome is Outcome.OK

    asyncio.run(go())
