"""A channel between supervisor and worker: questions and answers, both ways, on one socket.

Frames of a length and a msgpack body. Both ends are alike: each answers the kinds it has handlers
for, and asks the other. A question is answered with a payload or with one of our errors.
"""

import asyncio
import itertools
import logging
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, cast

import msgspec

from modelyard.core.errors import Internal, Kind, ModelyardError, TimedOut, Unavailable, make_error

_log = logging.getLogger(__name__)

Payload = Any
"""What msgpack can say: None, numbers, text, bytes, lists, and mappings of these."""
Handler = Callable[[Payload], Awaitable[Payload]]

_HEAD: Final = struct.Struct("!I")
_MAX_FRAME_BYTES: Final = 256 * 1024 * 1024


class _Question(msgspec.Struct, frozen=True, array_like=True, tag="question"):
    number: int
    kind: str
    payload: Payload


class _Answer(msgspec.Struct, frozen=True, array_like=True, tag="answer"):
    number: int
    payload: Payload


class _Refusal(msgspec.Struct, frozen=True, array_like=True, tag="refusal"):
    number: int
    kind: Kind
    code: str
    message: str
    field: str | None


_Message = _Question | _Answer | _Refusal
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Message).decode


class Channel(asyncio.Protocol):
    """One end. Used on the event loop's thread, but for `ask`."""

    def __init__(
        self, handlers: Mapping[str, Handler], on_lost: Callable[[], None] = lambda: None
    ) -> None:
        self._handlers = handlers
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._numbers = itertools.count(1)
        self._asked: dict[int, asyncio.Future[Payload]] = {}
        self._answering: set[asyncio.Task[None]] = set()
        self._received = bytearray()
        self._is_lost = False

    @classmethod
    async def over(
        cls,
        sock: socket.socket,
        handlers: Mapping[str, Handler],
        on_lost: Callable[[], None] = lambda: None,
    ) -> "Channel":
        """A channel over a connected Unix socket, which it then owns.

        `on_lost` hears, once, that the other end has gone or that this one was closed.
        """
        channel = cls(handlers, on_lost)
        await asyncio.get_running_loop().create_unix_connection(lambda: channel, sock=sock)
        return channel

    async def request(self, kind: str, payload: Payload = None) -> Payload:
        """What the other end answers; raises the error it refused with, or `Unavailable`."""
        transport = self._transport
        if transport is None or self._is_lost:
            raise _gone()
        number = next(self._numbers)
        answer: asyncio.Future[Payload] = self._loop.create_future()
        self._asked[number] = answer
        try:
            self._send(_Question(number, kind, payload))
            return await answer
        finally:
            del self._asked[number]

    def ask(self, kind: str, payload: Payload = None, timeout_s: float | None = None) -> Payload:
        """`request` for other threads than the loop's: blocks. Raises `TimedOut` as well."""
        asking = asyncio.run_coroutine_threadsafe(self.request(kind, payload), self._loop)
        try:
            return asking.result(timeout_s)
        except TimeoutError:
            asking.cancel()
            raise TimedOut(
                "no_answer", f"'{kind}' was not answered in time ({timeout_s} seconds)"
            ) from None

    def close(self) -> None:
        """Say no more; what was written goes out first."""
        if self._transport is not None:
            self._transport.close()

    # What the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        # uvloop's transports are no subclasses of asyncio's.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take in what has come; a frame may come in pieces, and several in one."""
        received = self._received
        received += data
        start = 0
        while len(received) - start >= _HEAD.size:
            (length,) = _HEAD.unpack_from(received, start)
            if length > _MAX_FRAME_BYTES:
                _log.error("a frame of %d bytes came over the control channel; closing", length)
                self.close()
                return
            end = start + _HEAD.size + length
            if len(received) < end:
                break
            self._take(_decode(bytes(received[start + _HEAD.size : end])))
            start = end
        del received[:start]

    def connection_lost(self, error: Exception | None) -> None:
        """The other end has gone: nobody waits for it any longer."""
        self._is_lost = True
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(_gone())
        for task in self._answering:
            task.cancel()
        self._on_lost()

    def _take(self, message: _Message) -> None:
        if isinstance(message, _Question):
            task = self._loop.create_task(self._answer(message))
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
            return
        answer = self._asked.get(message.number)
        if answer is None or answer.done():
            return
        if isinstance(message, _Answer):
            answer.set_result(message.payload)
        else:
            answer.set_exception(
                make_error(message.kind, message.code, message.message, field=message.field)
            )

    async def _answer(self, question: _Question) -> None:
        try:
            handler = self._handlers.get(question.kind)
            if handler is None:
                raise Internal("unknown_question", f"nobody answers '{question.kind}' here")
            self._send(_Answer(question.number, await handler(question.payload)))
        except ModelyardError as error:
            self._refuse(question, error)
        except Exception:  # noqa: BLE001 - whatever it is, the one who asks must not wait for ever
            _log.exception("'%s' failed", question.kind)
            self._refuse(question, Internal("internal", f"'{question.kind}' failed; see the log"))

    def _refuse(self, question: _Question, error: ModelyardError) -> None:
        self._send(_Refusal(question.number, error.kind, error.code, error.message, error.field))

    def _send(self, message: _Message) -> None:
        if self._transport is None or self._is_lost:
            return
        body = _encode(message)
        self._transport.write(_HEAD.pack(len(body)) + body)


def _gone() -> Unavailable:
    return Unavailable("channel_lost", "the process at the other end has gone")
