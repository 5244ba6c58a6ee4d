"""The HTTP protocol class: answers inference paths itself, hands every other to the application.

No framework stands in the hot path: parsed head, dictionary look-ups, decode, submit; and when the
call has ended, one write. A connection answers one request at a time; pipelined ones wait.
"""

import asyncio
import logging
import zlib
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from modelyard.api.http.doors import Door, Doors
from modelyard.api.http.errors import error_body, status_of
from modelyard.api.http.oip import OipCodec
from modelyard.api.http.wire import Answer, Question
from modelyard.core.call import Call
from modelyard.core.errors import Exhausted, Internal, Invalid, ModelyardError, Unavailable
from modelyard.core.ports import Exchange

_log = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 64 * 1024
_LINGER_S: Final = 2.0
"""How long what a refused caller still sends is read and thrown away: closing at once would reset
the connection and take the answer with it."""
_MAY_RETRY: Final = frozenset({"queue_full", "closing", "starting", "not_serving"})


class Surroundings:
    """What all connections of one server share."""

    def __init__(self, exchange: Exchange, *, max_body_bytes: int) -> None:
        self.exchange = exchange
        self.doors = Doors(exchange)
        self.max_body_bytes = max_body_bytes
        self._date_of: object = None
        self._ok = b""

    def head(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """Status line and usual headers of a good answer, remade when the date has moved on."""
        if default_headers is not self._date_of:
            self._date_of = default_headers
            self._ok = STATUS_LINE[200] + _header_lines(default_headers)
        return self._ok


class _NoEvent(asyncio.Event):
    """Stands where uvicorn keeps the event that wakes an application: here nobody waits."""

    def set(self) -> None:
        """Wake nobody."""


_NO_EVENT: Final = _NoEvent()
_NO_DOOR: Final = Door("health", OipCodec, "")
_LIVE: Final = b"/v2/health/live"
_READY: Final = b"/v2/health/ready"


class InferenceCycle(RequestResponseCycle):
    """One inference request on one connection, from its head to its last byte.

    To uvicorn's protocol it is a request in progress like any other, so that pipelining, shutdown
    and lost connections are the base class's business for both kinds. Its state is its own: the
    base's constructor, made for ASGI, is not called.
    """

    def __init__(
        self,
        protocol: "InferenceProtocol",
        door: Door,
        headers: dict[bytes, bytes],
        *,
        keep_alive: bool,
    ) -> None:
        self.protocol = protocol
        self.door = door
        self.headers = headers
        self.keep_alive = keep_alive
        self.content: bytes | bytearray = b""
        self.more_body = True
        self.expects_100_continue = False
        self.disconnected = False
        self.response_complete = False
        self.call: Call | None = None
        self.question: Question | None = None
        self.message_event = _NO_EVENT

    def run(self) -> None:
        """Decode the whole request and bring it to the exchange."""
        protocol = self.protocol
        try:
            exchange = protocol.surroundings.exchange
            served = exchange.find(self.door.model, self.door.version)
            body, self.content = self.content, b""
            encoding = self.headers.get(b"content-encoding")
            if encoding is not None:
                body = decompress(body, encoding, protocol.surroundings.max_body_bytes)
            question = self.door.bind(served).read(self.headers, bytes(body))
            self.question = question
            self.call = Call(
                served.model, served.version, question.inputs, question.rows, self.reply
            )
            exchange.submit(self.call)
        except ModelyardError as error:
            self.refuse(error)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer
            _log.exception("a request to %s failed before it was submitted", self.door.model)
            self.refuse(Internal("internal", "the server failed on this request; see its log"))

    def reply(self, call: Call) -> None:
        """The call has ended: write its answer, unless nobody is there to read it."""
        # The call holds this method: letting go of it here spares the garbage collector.
        self.call = None
        question, self.question = self.question, None
        if self.disconnected or self.response_complete or question is None:
            return
        if call.error is not None:
            self.refuse(call.error)
            return
        try:
            answer = question.write(call)
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer
            _log.exception("the answer of call %s could not be written", call.id)
            self.refuse(
                Internal("unwritable", f"the answer cannot be written; see the log for {call.id}")
            )
            return
        self.protocol.write_answer(self, answer)

    def refuse(self, error: ModelyardError) -> None:
        """Write an error and end the request."""
        if not self.disconnected and not self.response_complete:
            self.protocol.write_error(self, error)


class HealthCycle(InferenceCycle):
    """A health question: answered on the spot, whatever the models and the application do."""

    def __init__(self, protocol: "InferenceProtocol", path: bytes, *, keep_alive: bool) -> None:
        super().__init__(protocol, _NO_DOOR, {}, keep_alive=keep_alive)
        self.path = path

    def run(self) -> None:
        """Answer yes or no."""
        if self.path == _LIVE:
            self.protocol.write_answer(self, Answer(b'{"live":true}'))
        elif self.protocol.surroundings.exchange.is_ready():
            self.protocol.write_answer(self, Answer(b'{"ready":true}'))
        else:
            self.refuse(Unavailable("not_ready", "not every deployed model answers; see the index"))


class InferenceProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol with a short way for inference and health paths."""

    surroundings: Surroundings

    def __init__(self, *args: Any, surroundings: Surroundings, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.surroundings = surroundings
        self._inference: InferenceCycle | None = None
        self._head_bytes = 0
        self._in_head = False
        self._is_refused = False
        self.idle_since = self.loop.time()

    # What arrives

    def data_received(self, data: bytes) -> None:
        """Feed the parser; a head that never ends is refused."""
        if self._is_refused:
            return
        self.idle_since = self.loop.time()
        super().data_received(data)
        if self._in_head and self.parser is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_connection(
                    Invalid("head_too_large", f"the head is longer than {MAX_HEAD_BYTES} bytes")
                )

    def on_message_begin(self) -> None:
        """Start a head."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._inference = None
        self._in_head = True

    def on_headers_complete(self) -> None:
        """Decide who answers."""
        self._in_head = False
        self._head_bytes = 0
        url = self.url
        path = url if b"?" not in url else url[: url.index(b"?")]
        method = self.parser.get_method()
        if method == b"POST":
            door = self.surroundings.doors.find(path)
            if door is not None:
                self._begin(
                    InferenceCycle(self, door, dict(self.headers), keep_alive=self._stays())
                )
                return
        elif method == b"GET" and path in (_LIVE, _READY):
            self._begin(HealthCycle(self, path, keep_alive=self._stays()))
            return
        # The ASGI scope is made only now that somebody needs it.
        headers, expects = self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers.extend(headers)
        self.expect_100_continue = expects
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Collect an inference body; the application reads its own."""
        cycle = self._inference
        if cycle is None:
            super().on_body(body)
            return
        if cycle.response_complete:
            return
        if len(cycle.content) + len(body) > self.surroundings.max_body_bytes:
            self._refuse_body(cycle)
        elif not cycle.content:
            cycle.content = body
        else:
            if isinstance(cycle.content, bytes):
                cycle.content = bytearray(cycle.content)
            cycle.content += body

    def on_message_complete(self) -> None:
        """A whole request is here: run it, if it is its turn."""
        cycle = self._inference
        if cycle is None:
            super().on_message_complete()
            return
        self._inference = None
        cycle.more_body = False
        if cycle.response_complete:
            if not cycle.keep_alive:
                self.transport.close()
        elif not (self.pipeline and self._is_queued(cycle)):
            cycle.run()

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone: whatever is under way for it ends here."""
        in_progress = [self.cycle, *(queued for queued, _ in self.pipeline)]
        super().connection_lost(exc)
        for each in in_progress:
            if isinstance(each, InferenceCycle):
                each.disconnected = True
                if each.call is not None:
                    each.call.cancel()

    def pause_writing(self) -> None:
        """A caller who does not read its answers may not send more requests either."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        if not self.pipeline:
            self.flow.resume_reading()

    # What is written

    def write_answer(self, cycle: InferenceCycle, answer: Answer) -> None:
        """Write a good answer in one piece."""
        body = answer.body
        self.transport.write(
            b"%bcontent-type: %b\r\n%b%bcontent-length: %d\r\n\r\n%b"
            % (
                self.surroundings.head(self.server_state.default_headers),
                answer.content_type,
                answer.extra_headers,
                b"" if cycle.keep_alive else b"connection: close\r\n",
                len(body),
                body,
            )
        )
        self._complete(cycle)

    def write_error(self, cycle: InferenceCycle, error: ModelyardError) -> None:
        """Write an error's status and body."""
        self.transport.write(self._error_bytes(error, close=not cycle.keep_alive))
        self._complete(cycle)

    def _error_bytes(self, error: ModelyardError, *, close: bool) -> bytes:
        body = error_body(error)
        return b"".join(
            (
                STATUS_LINE[status_of(error)],
                _header_lines(self.server_state.default_headers),
                b"retry-after: 1\r\n" if error.code in _MAY_RETRY else b"",
                b"connection: close\r\n" if close else b"",
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body),
                body,
            )
        )

    def _complete(self, cycle: InferenceCycle) -> None:
        cycle.response_complete = True
        self.idle_since = self.loop.time()
        if not cycle.keep_alive:
            if cycle.more_body:
                self.loop.call_later(_LINGER_S, self.transport.close)
            else:
                self.transport.close()
        elif self.pipeline:
            self.on_response_complete()
        elif self.flow.read_paused:
            self.flow.resume_reading()

    # How requests begin

    def _stays(self) -> bool:
        return bool(self.parser.should_keep_alive())

    def _begin(self, cycle: InferenceCycle) -> None:
        cycle.expects_100_continue = self.expect_100_continue
        self._inference = cycle
        before, self.cycle = self.cycle, cycle
        if before is not None and not before.response_complete:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._invite(cycle)

    def _invite(self, cycle: InferenceCycle) -> None:
        """Its turn has come: refuse a body that is announced as too large, or let it come."""
        length = cycle.headers.get(b"content-length")
        if length is not None and int(length) > self.surroundings.max_body_bytes:
            self._refuse_body(cycle)
        elif cycle.expects_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        if not isinstance(cycle, InferenceCycle):
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._invite(cycle)
        else:
            cycle.run()

    def _is_queued(self, cycle: InferenceCycle) -> bool:
        return any(queued is cycle for queued, _ in self.pipeline)

    def _refuse_body(self, cycle: InferenceCycle) -> None:
        cycle.keep_alive = False
        limit = self.surroundings.max_body_bytes
        cycle.refuse(
            Exhausted("body_too_large", f"the body is larger than this server's {limit} bytes")
        )

    def _refuse_connection(self, error: ModelyardError) -> None:
        self._is_refused = True
        self.transport.write(self._error_bytes(error, close=True))
        self.loop.call_later(_LINGER_S, self.transport.close)

    # Ends

    def close_if_idle(self, now: float, *, keep_alive_s: float, head_s: float) -> None:
        """Close a connection that has been silent too long, between requests or inside one."""
        cycle = self.cycle
        is_waiting = cycle is not None and not cycle.response_complete and not cycle.more_body
        if is_waiting or self.transport is None or self.transport.is_closing():
            return
        in_request = self._in_head or (cycle is not None and not cycle.response_complete)
        if now - self.idle_since > (head_s if in_request else keep_alive_s):
            self.transport.close()


def _header_lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


def decompress(body: bytes | bytearray, encoding: bytes, limit: int) -> bytes:
    """Undo gzip or deflate, never making more than `limit` bytes."""
    name = encoding.strip().lower()
    if name == b"identity":
        return bytes(body)
    if name not in (b"gzip", b"deflate"):
        raise Invalid(
            "unsupported_encoding",
            f"content encoding '{name.decode('latin-1'):.20}' is not understood; use gzip, "
            "deflate or none",
            field="Content-Encoding",
        )
    # 32 added to the window size lets zlib recognise either header by itself.
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS + 32)
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise Invalid("bad_encoding", f"the body is not {name.decode()}: {error}") from None
    if len(plain) > limit:
        raise Exhausted("body_too_large", f"the body unpacks to more than {limit} bytes")
    if not inflater.eof:
        raise Invalid("bad_encoding", f"the body ends inside its {name.decode()} stream")
    return plain
