"""Frames over a connected Unix stream socket, on an event loop.

A raw socket under `add_reader` rather than a transport: a loading thread can make the connection,
file descriptors can go over it, and the loop takes it up without waiting.
"""

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Callable
from typing import Final

_HEAD: Final = struct.Struct("<I")
_CHUNK: Final = 256 * 1024
_MOST: Final = 2**31


class Wire:
    """One end, which owns its socket. Used on the event loop's thread only.

    `on_frame` gets each frame's bytes; `on_lost` hears once that the other end has gone, or that
    what it sends cannot be understood; not when this end was closed.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sock: socket.socket,
        on_frame: Callable[[bytes], None],
        on_lost: Callable[[], None],
    ) -> None:
        sock.setblocking(False)
        self._loop = loop
        self._sock = sock
        self._on_frame = on_frame
        self._on_lost = on_lost
        self._received = bytearray()
        self._unsent: deque[memoryview] = deque()
        self._is_closed = False
        loop.add_reader(sock, self._read)

    def send(self, body: bytes) -> None:
        """Send a frame; what the socket does not take at once goes out when it can."""
        if self._is_closed:
            return
        # One piece for a small frame; a copy of a large one would cost more than a second call.
        if len(body) < _CHUNK:
            self._write(memoryview(_HEAD.pack(len(body)) + body))
        else:
            self._write(memoryview(_HEAD.pack(len(body))))
            self._write(memoryview(body))

    def close(self) -> None:
        """Close the socket; what was not sent is lost."""
        if self._is_closed:
            return
        self._is_closed = True
        self._loop.remove_reader(self._sock)
        self._loop.remove_writer(self._sock)
        self._sock.close()

    def lose(self) -> None:
        """Close, and let the owner know."""
        if not self._is_closed:
            self.close()
            self._on_lost()

    def _write(self, data: memoryview) -> None:
        if self._unsent:
            self._unsent.append(data)
            return
        sent = self._try_to_send(data)
        if sent < len(data):
            self._unsent.append(data[sent:])
            self._loop.add_writer(self._sock, self._flush)

    def _try_to_send(self, data: memoryview) -> int:
        try:
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            # Told from the loop: whoever sends is in the middle of something.
            self._loop.call_soon(self.lose)
            return len(data)

    def _flush(self) -> None:
        while self._unsent:
            data = self._unsent.popleft()
            sent = self._try_to_send(data)
            if sent < len(data):
                self._unsent.appendleft(data[sent:])
                return
        self._loop.remove_writer(self._sock)

    def _read(self) -> None:
        try:
            data = self._sock.recv(_CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if not data:
            self.lose()
            return
        self._received += data
        start = 0
        try:
            while not self._is_closed and len(self._received) - start >= _HEAD.size:
                (length,) = _HEAD.unpack_from(self._received, start)
                if length > _MOST:
                    self.lose()
                    return
                end = start + _HEAD.size + length
                if len(self._received) < end:
                    break
                frame = bytes(memoryview(self._received)[start + _HEAD.size : end])
                start = end
                self._on_frame(frame)
        finally:
            # Whatever its taker raised: no frame is taken twice.
            del self._received[:start]
