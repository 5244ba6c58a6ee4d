"""A connection between a worker and a model process: frames, and a ring of memory each way.

The worker dials and brings the memory of both rings: the first is its own to write to. Where the
system has no such memory, every tensor goes inside its message.
"""

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Callable
from typing import Final

from modelyard.core.datatypes import Array
from modelyard.core.signature import TensorSpec
from modelyard.serving.process.messages import PROTOCOL, Tensor, pack, unpack
from modelyard.serving.process.ring import BrokenRing, RingReader, RingWriter, make_memory
from modelyard.serving.process.wire import Wire

_HELLO: Final = struct.Struct("<4sI")
_MAGIC: Final = b"myrd"
_TRIM_S: Final = 5.0
_KEPT_BYTES: Final = 16 * 1024 * 1024


class Link:
    """One end of a connection. Used on the event loop's thread only."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        rings: tuple[RingWriter, RingReader] | None,
        on_frame: Callable[[bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._outgoing: RingWriter | None = None
        self._incoming: RingReader | None = None
        if rings is not None:
            self._outgoing, self._incoming = rings
        self._wire = Wire(loop, sock, on_frame, on_lost)
        self.send = self._wire.send
        self._timer = loop.call_later(_TRIM_S, self._trim)

    def pack(self, array: Array) -> Tensor:
        """The array as it travels; raises `BrokenRing`."""
        return pack(array, self._outgoing)

    def unpack(self, spec: TensorSpec, tensor: Tensor) -> Array:
        """A tensor that has come as an array of its own; raises `Invalid` or `BrokenRing`."""
        return unpack(spec, tensor, self._incoming)

    def close(self) -> None:
        """Say no more, and free the memory."""
        self._timer.cancel()
        self._wire.close()
        self._outgoing = self._incoming = None

    def lose(self) -> None:
        """The other side cannot be understood: close, and let the owner know."""
        self._wire.lose()

    def _trim(self) -> None:
        self._timer = self._loop.call_later(_TRIM_S, self._trim)
        if self._outgoing is not None:
            with contextlib.suppress(BrokenRing):
                self._outgoing.trim(_KEPT_BYTES)


def dial(
    loop: asyncio.AbstractEventLoop,
    path: str,
    on_frame: Callable[[bytes], None],
    on_lost: Callable[[], None],
) -> Link:
    """A connection to who listens on `path`, at once; raises `OSError`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fds: list[int] = []
    try:
        sock.setblocking(False)
        sock.connect(path)
        rings = None
        if hasattr(os, "memfd_create"):
            fds += [make_memory(), make_memory()]
            rings = RingWriter(fds[0]), RingReader(fds[1])
        socket.send_fds(sock, [_HELLO.pack(_MAGIC, PROTOCOL)], fds)
    except BaseException:
        sock.close()
        raise
    finally:
        for fd in fds:
            os.close(fd)
    return Link(loop, sock, rings, on_frame, on_lost)


def welcome(
    loop: asyncio.AbstractEventLoop,
    sock: socket.socket,
    on_frame: Callable[[bytes], None],
    on_lost: Callable[[], None],
) -> Link:
    """The other end of `dial`, once `sock` can be read; raises `BrokenRing` or `OSError`."""
    hello, fds, _, _ = socket.recv_fds(sock, _HELLO.size, 2)
    try:
        if hello != _HELLO.pack(_MAGIC, PROTOCOL) or len(fds) not in (0, 2):
            raise BrokenRing("the other side speaks another protocol")
        rings = (RingWriter(fds[1]), RingReader(fds[0])) if fds else None
    finally:
        for fd in fds:
            os.close(fd)
    return Link(loop, sock, rings, on_frame, on_lost)
