"""Frames over a Unix socket."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator

import pytest

from modelyard.serving.process.wire import Wire


class End:
    """One end, and what came to it."""

    def __init__(self, sock: socket.socket) -> None:
        self.frames: list[bytes] = []
        self.refused: bytes | None = None
        self.came = asyncio.Event()
        self.lost = asyncio.Event()
        self.wire = Wire(asyncio.get_running_loop(), sock, self._take, self.lost.set)

    def _take(self, frame: bytes) -> None:
        self.frames.append(frame)
        self.came.set()
        if frame == self.refused:
            raise ValueError("refused")

    async def wait_for(self, count: int) -> None:
        while len(self.frames) < count:
            await self.came.wait()
            self.came.clear()


@contextlib.asynccontextmanager
async def pair() -> AsyncIterator[tuple[End, End]]:
    left, right = (End(each) for each in socket.socketpair())
    yield left, right
    left.wire.close()
    right.wire.close()


def test_frames_arrive_whole_and_in_order() -> None:
    """Small, empty and very large frames come as they were sent, both ways at once."""
    sent = [b"one", b"", bytes(5_000_000), b"two", b"x" * 300_000, b"end"]

    async def go() -> None:
        async with pair() as (left, right):
            for frame in sent:
                left.wire.send(frame)
                right.wire.send(frame)
            await asyncio.gather(left.wait_for(6), right.wait_for(6))
            assert left.frames == right.frames == sent

    asyncio.run(go())


def test_the_end_of_the_other_side_is_heard_once() -> None:
    """Whoever is left hears that the other has gone, and may go on sending into nothing."""

    async def go() -> None:
        async with pair() as (left, right):
            right.wire.close()
            left.wire.send(b"nobody")
            await left.lost.wait()
            left.wire.send(b"nobody")
            assert not right.lost.is_set()

    asyncio.run(go())


def test_no_frame_is_taken_twice() -> None:
    """Not even one whose taker fails over it: the next one comes, and it alone."""

    async def go() -> None:
        told: list[str] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: told.append(str(context["exception"])))
        async with pair() as (left, right):
            right.refused = b"bad"
            left.wire.send(b"bad")
            await right.wait_for(1)
            left.wire.send(b"good")
            await right.wait_for(2)
            assert right.frames == [b"bad", b"good"]
            assert told == ["refused"]

    asyncio.run(go())


def test_a_frame_of_impossible_length_ends_the_connection() -> None:
    """A length that nobody sends is not waited for."""

    async def go() -> None:
        ours, theirs = socket.socketpair()
        end = End(ours)
        with theirs:
            theirs.sendall(struct.pack("<I", 2**32 - 1) + b"x")
            async with asyncio.timeout(10):
                await end.lost.wait()
        assert end.frames == []

    asyncio.run(go())


@pytest.mark.parametrize("size", [0, 1, 100, 262_143, 262_144, 262_145])
def test_a_frame_that_comes_byte_by_byte_is_one_frame(size: int) -> None:
    """How the system cuts the stream does not matter."""

    async def go() -> None:
        ours, theirs = socket.socketpair()
        end = End(ours)
        with theirs:
            data = struct.pack("<I", size) + bytes(size)
            for byte in data[:5]:
                theirs.send(bytes([byte]))
                await asyncio.sleep(0)
            await asyncio.get_running_loop().run_in_executor(None, theirs.sendall, data[5:])
            await end.wait_for(1)
        assert end.frames == [bytes(size)]
        end.wire.close()

    asyncio.run(go())
