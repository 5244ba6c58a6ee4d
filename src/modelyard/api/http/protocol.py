"""The HTTP protocol class: answers inference paths itself, hands every other to the application.

No framework stands in the hot path: parsed head, dictionary look-ups, decode, submit; and when the
call has ended, one write. A connection answers one request at a time; pipelined ones wait.
"""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from modelyard.api.http.cycles import (
    HealthCycle,
    InferenceCycle,
    RefusalCycle,
)
from modelyard.api.http.errors import error_body, error_headers, status_of
from modelyard.api.http.preferences import preferences_of
from modelyard.api.http.surroundings import PEER, KnownHead, Surroundings, header_lines
from modelyard.api.http.wire import JSON, Answer
from modelyard.api.peers import peer_of
from modelyard.core.errors import Exhausted, Invalid, ModelyardError, Unavailable
from modelyard.core.identity import UNKNOWN_PEER

_log = logging.getLogger(__name__)

MAX_HEAD_BYTES: Final = 64 * 1024
_LINGER_S: Final = 2.0
"""How long what a refused caller still sends is read and thrown away: closing at once would reset
the connection and take the answer with it."""
_HALF_CLOSED_S: Final = 1.0
"""How long a caller who has shut down its side may still be waiting for its answers: one that has
gone for good looks the same, and its calls must not hold a place for long."""
_LEAST_BYTES_S: Final = 1000
"""A body that comes more slowly than this on average is not worth waiting for."""
_HEAD_END: Final = b"\r\n\r\n"
_QUIET_S: Final = 1.0
"""How long a stopping server listens on a connection that is between two requests: the next may be
on its way, and closing under it would lose it."""
_FLUSH_S: Final = 0.001
_SMALL_BODY: Final = 64 * 1024
"""Up to how many bytes the body of a refused request is thrown away, and the connection kept."""


class InferenceProtocol(HttpToolsProtocol):
    """uvicorn's httptools protocol with a short way for inference and health paths."""

    surroundings: Surroundings

    def __init__(self, *args: Any, surroundings: Surroundings, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.surroundings = surroundings
        self._inference: InferenceCycle | None = None
        self._running: RequestResponseCycle | None = None
        self._is_advancing = False
        self._is_upgrade = False
        self._head_bytes = 0
        self._begun_in_read = 0
        self._in_head = False
        self._is_refused = False
        self._is_finishing = False
        self._take: Callable[[socket.socket], None] | None = None
        self._begun: InferenceCycle | None = None
        self._last_head = b""
        self._unsent = 0
        self._body_bytes = 0
        self.peer = UNKNOWN_PEER
        self.idle_since = self._begun_at = self.loop.time()

    @property
    def is_tls(self) -> bool:
        """Whether the connection is encrypted."""
        return self.scheme == "https"

    # What arrives

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A caller has connected, and shaken hands where that is asked."""
        super().connection_made(transport)
        self.peer = peer_of(transport)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what is no request, or has a head that never ends, is refused."""
        if self._is_refused:
            return
        if not self._is_between_requests():
            self.idle_since = self.loop.time()
            self._feed(data)
            return
        end = data.find(_HEAD_END) + len(_HEAD_END)
        head = data[:end]
        known = self.surroundings.heads.get(head)
        if known is not None and len(data) - end == known.length:
            self._run_known(known, data[end:])
            return
        self.idle_since = self.loop.time()
        self._begun = None
        self._feed(data)
        if head == self._last_head:
            self._learn(head, len(data) - end)
        self._last_head = head

    def _is_between_requests(self) -> bool:
        """Whether the parser waits for the first byte of a request, and nobody for an answer."""
        latest = self.cycle
        return (
            (latest is None or (latest.response_complete and not latest.more_body))
            and not self._in_head
            and not self.pipeline
            and not self._is_finishing
        )

    def _run_known(self, known: KnownHead, body: bytes) -> None:
        """A request whose head was parsed before, byte for byte: the parser would say the same."""
        cycle = InferenceCycle(self, known.door, known.headers, known.preferences, keep_alive=True)
        cycle.content = body
        cycle.more_body = False
        self.cycle = self._running = cycle
        cycle.run()

    def _learn(self, head: bytes, rest: int) -> None:
        """Keep a head that came twice in a row on this connection, each time with its whole body.

        Only such: where every head is another, by a request id in it, keeping them is for nothing.
        """
        cycle = self._begun
        if (
            cycle is not None
            and head.endswith(_HEAD_END)
            and cycle.keep_alive
            and cycle.permit is not None
            and not cycle.more_body
            and not cycle.expects_100_continue
            and cycle.headers.get(b"content-length") == b"%d" % rest
        ):
            known = KnownHead(cycle.door, cycle.headers, cycle.preferences, rest)
            self.surroundings.learn(head, known)

    def _feed(self, data: bytes) -> None:
        self._begun_in_read = 0 if self._is_at_boundary() else 1
        while True:
            try:
                self.parser.feed_data(data)
                break
            except httptools.HttpParserUpgrade as upgrade:
                if self.parser.get_method() == b"CONNECT":
                    self._refuse_connection(Invalid("method_not_allowed", "this is no proxy"))
                    return
                # No other protocol is spoken here, and a caller who only offers one is answered in
                # this. The parser takes what follows for that protocol's: read it all anew.
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            except httptools.HttpParserError as error:
                self._refuse_connection(_bad_http(error))
                return
        # Where other requests came before it in this read, what is the head's own is not known.
        if self._in_head and self._begun_in_read == 1 and self.parser is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse_connection(
                    Invalid("head_too_large", f"the head is longer than {MAX_HEAD_BYTES} bytes")
                )

    def _is_at_boundary(self) -> bool:
        """Whether the next byte is the first of a request."""
        return not self._in_head and (self.cycle is None or not self.cycle.more_body)

    def on_message_begin(self) -> None:
        """Start a head."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._inference = None
        self._in_head = True
        self._head_bytes = self._body_bytes = 0
        self._begun_in_read += 1
        self._begun_at = self.idle_since

    def on_headers_complete(self) -> None:
        """Decide who answers."""
        self._in_head = False
        self._is_upgrade = self.parser.should_upgrade()
        if self._is_upgrade:
            return
        if not self.url.startswith(b"/"):
            self.url = _origin_form(self.url)
        url = self.url
        path = url if b"?" not in url else url[: url.index(b"?")]
        method = self.parser.get_method()
        if method == b"POST":
            door = self.surroundings.doors.find(path)
            if door is not None:
                headers = dict(self.headers)
                self._begun = InferenceCycle(
                    self, door, headers, preferences_of(headers), keep_alive=self._stays()
                )
                self._begin(self._begun)
                return
        elif method == b"GET" and path in self.surroundings.health_paths:
            self._begin(HealthCycle(self, path, keep_alive=self._stays()))
            return
        # The ASGI scope is made only now that somebody needs it.
        received, expects = self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url = url
        self.headers.extend(received)
        self.expect_100_continue = expects
        self.scope["extensions"] = {PEER: {"peer": self.peer}}
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Collect an inference body; the application reads its own."""
        cycle = self._inference
        if cycle is None:
            self._body_bytes += len(body)
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
        if self._is_upgrade:
            return
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

    def eof_received(self) -> bool:  # type: ignore[override]
        """The caller sends no more. What it has asked for in whole is answered all the same."""
        latest = self.cycle
        if self._is_refused or latest is None or latest.response_complete or latest.more_body:
            return False
        if self.is_tls:
            # There is no half-closed TLS in asyncio.
            return False
        latest.keep_alive = False
        self.loop.call_later(_HALF_CLOSED_S, self.transport.close)
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """The caller has gone: whatever is under way for it ends here."""
        in_progress = [self._running, self.cycle, *(queued for queued, _ in self.pipeline)]
        self.pipeline.clear()
        super().connection_lost(exc)
        for each in in_progress:
            if each is None:
                continue
            each.disconnected = True
            if not isinstance(each, InferenceCycle):
                each.message_event.set()
                continue
            # The connection and its requests hold each other until the next collection of garbage,
            # which a server that nobody calls does not reach: a body must not wait for it.
            each.content = b""
            if each.call is not None:
                each.call.abandon()

    def pause_writing(self) -> None:
        """A caller who does not read its answers may not send more requests either."""
        super().pause_writing()
        self.flow.pause_reading()

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self.on_response_complete()

    # What is written

    def write_answer(self, cycle: InferenceCycle, answer: Answer) -> None:
        """Write a good answer in one piece."""
        body = answer.body
        if cycle.keep_alive and answer.content_type is JSON and not answer.extra_headers:
            around, headers = self.surroundings, self.server_state.default_headers
            head = around.ok_json if headers is around.date_of else around.json_head(headers)
            self.transport.write(b"%b%d\r\n\r\n%b" % (head, len(body), body))
            self._complete(cycle)
            return
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
        preferences = cycle.preferences
        echo = b"" if preferences is None else preferences.echo
        self.transport.write(self._error_bytes(error, echo, close=not cycle.keep_alive))
        self._complete(cycle)

    def _error_bytes(self, error: ModelyardError, echo: bytes, *, close: bool) -> bytes:
        body = error_body(error)
        return b"".join(
            (
                STATUS_LINE[status_of(error)],
                header_lines(self.server_state.default_headers),
                *(f"{name}: {value}\r\n".encode() for name, value in error_headers(error)),
                b"connection: close\r\n" if close else b"",
                echo,
                b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body),
                body,
            )
        )

    def _complete(self, cycle: InferenceCycle) -> None:
        cycle.response_complete = True
        self.idle_since = self.loop.time()
        if not cycle.keep_alive:
            if cycle.more_body or self._is_refused:
                self.loop.call_later(_LINGER_S, self.transport.close)
            else:
                self.transport.close()
        elif self.pipeline or self.flow.read_paused:
            self.on_response_complete()
        elif self._take is not None:
            self.loop.call_soon(self._hand_over)

    def on_response_complete(self) -> None:
        """Go on with the next request, unless answers wait to be read.

        A loop, not a recursion: the next may be answered on the spot, and so may a thousand more.
        """
        if self._is_advancing:
            return
        self._is_advancing = True
        self.idle_since = self.loop.time()
        try:
            while self.pipeline and self._may_go_on():
                self._start_asgi_task(*self.pipeline.pop())
        finally:
            self._is_advancing = False
        if not self.flow.write_paused and not self.transport.is_closing():
            self.flow.resume_reading()
        if self._take is not None:
            self.loop.call_soon(self._hand_over)

    def _may_go_on(self) -> bool:
        running = self._running
        return (
            (running is None or running.response_complete)
            and not self.flow.write_paused
            and not self.transport.is_closing()
        )

    # How requests begin

    def _stays(self) -> bool:
        return bool(self.parser.should_keep_alive()) and not self._is_finishing

    def _begin(self, cycle: InferenceCycle) -> None:
        cycle.expects_100_continue = self.expect_100_continue
        self._inference = cycle
        before, self.cycle = self.cycle, cycle
        if before is not None and not before.response_complete:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))
        else:
            self._running = cycle
            self._invite(cycle)

    def _invite(self, cycle: InferenceCycle) -> None:
        """Its turn has come: see who calls before the body may come, and how large that will be."""
        try:
            cycle.enter()
        except ModelyardError as error:
            self._turn_away(cycle, error)
            return
        except Exception:  # noqa: BLE001 - whatever it is, the caller gets an answer
            cycle.keep_alive = False
            cycle.break_off()
            return
        length = cycle.headers.get(b"content-length")
        if length is not None and int(length) > self.surroundings.max_body_bytes:
            self._refuse_body(cycle)
        elif cycle.expects_100_continue:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._running = cycle
        self._begun_at = self.idle_since
        if not isinstance(cycle, InferenceCycle):
            super()._start_asgi_task(cycle, app)
        elif cycle.more_body:
            self._invite(cycle)
        else:
            cycle.run()

    def _is_queued(self, cycle: RequestResponseCycle) -> bool:
        return any(queued is cycle for queued, _ in self.pipeline)

    def _turn_away(self, cycle: InferenceCycle, error: ModelyardError) -> None:
        """Refuse before the body is read, and hang up unless what comes of it is little."""
        length = cycle.headers.get(b"content-length", b"0")
        if (
            cycle.expects_100_continue
            or b"transfer-encoding" in cycle.headers
            or int(length) > _SMALL_BODY
        ):
            cycle.keep_alive = False
        cycle.refuse(error)

    def _refuse_body(self, cycle: InferenceCycle) -> None:
        cycle.keep_alive = False
        limit = self.surroundings.max_body_bytes
        cycle.refuse(
            Exhausted("body_too_large", f"the body is larger than this server's {limit} bytes")
        )

    def _refuse_connection(self, error: ModelyardError) -> None:
        """Answer what came before it on this connection, then refuse, and close."""
        self._is_refused = True
        self._in_head = False
        cycle = self.cycle
        if cycle is not None and cycle.more_body and not cycle.response_complete:
            # It is inside this request's body that the bytes went wrong.
            cycle.disconnected = cycle.response_complete = True
            if self._is_queued(cycle):
                self.pipeline.popleft()
                self.cycle = self.pipeline[0][0] if self.pipeline else self._running  # type: ignore[assignment]
            elif not isinstance(cycle, InferenceCycle):
                cycle.message_event.set()
        refusal = RefusalCycle(self, error)
        self._begin(refusal)
        if self._running is refusal:
            refusal.run()

    def _head_without_upgrade(self) -> bytes:
        lines = [
            b"%b %b HTTP/%b"
            % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())
        ]
        for name, value in self.headers:
            if name == b"connection":
                value = b",".join(
                    token for token in value.split(b",") if token.strip().lower() != b"upgrade"
                )
            if name != b"upgrade" and value:
                lines.append(b"%b: %b" % (name, value))
        return b"\r\n".join((*lines, b"", b""))

    # Ends

    def finish_soon(self) -> None:
        """Answer what was asked and what is on its way, and close: the server stops."""
        self._take = None
        self._is_finishing = True
        latest = self.cycle
        if latest is None or latest.response_complete:
            self.loop.call_later(_QUIET_S, self._close_if_quiet)
        else:
            latest.keep_alive = False

    def _close_if_quiet(self) -> None:
        latest = self.cycle
        if latest is None or latest.response_complete:
            self.transport.close()

    def release(self, take: Callable[[socket.socket], None]) -> None:
        """Give the connection away, still connected, as soon as it is between two requests.

        `take` gets a duplicate of the socket. Bytes that have not been read stay in it: whoever
        serves it next reads them, and the caller notices nothing.
        """
        if self.is_tls:
            # What its keys are only this process knows: it ends here, when it is idle.
            self.finish_soon()
            return
        self._take = take
        self._hand_over()

    def _hand_over(self) -> None:
        take = self._take
        if (
            take is None
            or self.transport.is_closing()
            or self._is_refused
            or not self._is_between_requests()
        ):
            return
        latest = self.cycle
        if latest is not None and not latest.keep_alive:
            return
        if self.transport.get_write_buffer_size():
            self.loop.call_later(_FLUSH_S, self._hand_over)
            return
        self._take = None
        duplicate = socket.fromfd(
            self.transport.get_extra_info("socket").fileno(), self._family(), socket.SOCK_STREAM
        )
        # Closes our descriptor, not the connection: the duplicate keeps that.
        self.transport.abort()
        take(duplicate)

    def _family(self) -> int:
        family: int = self.transport.get_extra_info("socket").family
        return family

    def give_up(self) -> None:
        """The server waits no longer: say so to whoever still waits for an answer, and close."""
        cycle = self._running
        if isinstance(cycle, InferenceCycle) and not cycle.response_complete:
            cycle.keep_alive = False
            error = Unavailable(
                "closing", "the server stops, and had no time left to answer", retry_after_s=1.0
            )
            if cycle.call is not None:
                cycle.call.fail(error)
            elif not cycle.more_body:
                cycle.refuse(error)
        self.transport.close()

    def close_if_idle(self, now: float, *, keep_alive_s: float, head_s: float) -> None:
        """Close a connection that has been silent too long, between requests or inside one."""
        if self.flow.write_paused or self.transport.is_closing():
            self._abort_if_unread(now, keep_alive_s)
            return
        cycle, running = self.cycle, self._running
        if running is not None and not running.response_complete and not running.more_body:
            return
        in_request = self._in_head or (cycle is not None and not cycle.response_complete)
        is_silent = now - self.idle_since > (head_s if in_request else keep_alive_s)
        if is_silent or (in_request and self._is_dawdling(now, head_s)):
            self.transport.close()

    def _is_dawdling(self, now: float, head_s: float) -> bool:
        """Whether a request comes so slowly that it is no request but an attack."""
        cycle = self._inference
        received = self._body_bytes if cycle is None else len(cycle.content)
        if self._in_head:
            received = 0
        return now - self._begun_at > head_s + received / _LEAST_BYTES_S

    def _abort_if_unread(self, now: float, patience_s: float) -> None:
        # Closing in good order would wait for a caller that may never read.
        unsent = self.transport.get_write_buffer_size()
        if unsent < self._unsent:
            self.idle_since = now
        self._unsent = unsent
        if now - self.idle_since > patience_s:
            self.transport.abort()


def _bad_http(error: httptools.HttpParserError) -> Invalid:
    why = error.__context__
    if isinstance(error, httptools.HttpParserCallbackError) and not isinstance(
        why, UnicodeDecodeError | httptools.HttpParserInvalidURLError
    ):
        _log.error("a request could not be taken in", exc_info=error)
        return Invalid("bad_http", "this request cannot be taken in")
    said = "its path is no URL" if why is not None else str(error)
    return Invalid("bad_http", f"this is no HTTP/1.1 request: {said:.200}")


def _origin_form(url: bytes) -> bytes:
    """The path and query of a URL that names the host too, as callers of a proxy send it."""
    parsed = httptools.parse_url(url)
    path = parsed.path or b"/"
    return path + b"?" + parsed.query if parsed.query else path
