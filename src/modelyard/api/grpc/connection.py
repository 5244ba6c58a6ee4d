"""A gRPC connection: HTTP/2 frames from libnghttp2, RPCs by stream, on the loop's own transport."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast

from ngh2 import (
    Configuration,
    Connection,
    ConnectionStateError,
    DataReceived,
    NGH2Error,
    RequestReceived,
    Role,
    Setting,
    SettingsReceived,
    StreamClosed,
    StreamProtocolError,
    StreamReset,
    TrailersReceived,
)

from modelyard.api.asks import PUBLIC, Asks, admitted
from modelyard.api.grpc.errors import Status, Trailers, status_fields
from modelyard.api.grpc.framing import ENCODINGS
from modelyard.api.grpc.rpc import Rpc, Stream, as_ours
from modelyard.api.peers import peer_of
from modelyard.core.errors import Exhausted
from modelyard.core.identity import UNKNOWN_PEER
from modelyard.core.ports import Access, Caller

_log: Final = logging.getLogger(__name__)

Open = Callable[[Stream, int, Mapping[bytes, bytes]], Rpc]
"""Makes the RPC of one method."""


@dataclass(frozen=True, slots=True)
class Method:
    """What is served by one path, and what it asks of its caller."""

    asks: Asks
    open: Open


_CONFIGURATION: Final = Configuration(
    # A stream that is not asked for more must not be sent more.
    auto_window_update=False,
    # Cancelling is what gRPC's clients do with every call that is late; a call that is taken from
    # the queue costs nothing.
    stream_reset_rate_limit=(10_000, 1_000),
    max_inbound_header_list_size=16_384,
    max_inbound_header_count=128,
)
_MAX_STREAMS: Final = 1_024
_STREAM_WINDOW: Final = 1_048_576
_CONNECTION_WINDOW: Final = 16_777_216
_MAX_FRAME: Final = 262_144
_SETTINGS: Final = {
    Setting.MAX_CONCURRENT_STREAMS: _MAX_STREAMS,
    Setting.INITIAL_WINDOW_SIZE: _STREAM_WINDOW,
    Setting.MAX_FRAME_SIZE: _MAX_FRAME,
    Setting.MAX_HEADER_LIST_SIZE: 16_384,
}
_MAX_HELD: Final = 4
"""How many of the largest messages one connection may have half sent, or unread, at once."""
_MOST_PUBLIC: Final = 32
"""How many RPCs of one connection may be open that nobody was asked a key for."""
_PUBLIC_BYTES: Final = 16 * 1024
"""The largest message of such an RPC: it asks for the health of something by its name."""
_HANDSHAKE_S: Final = 30.0
_LAST_CALLS_S: Final = 0.05
"""Calls that were on their way when the caller heard that we stop are answered so long."""

_HEADERS: Final = (
    (b":status", b"200"),
    (b"content-type", b"application/grpc"),
    (b"grpc-accept-encoding", b",".join((b"identity", *ENCODINGS))),
)
_OK: Final = status_fields(Status.OK)
_NOT_POST: Final = ((b":status", b"405"), (b"allow", b"POST"))
_NOT_GRPC: Final = ((b":status", b"415"),)
_GONE: Final = (StreamProtocolError, ConnectionStateError)
"""The caller has reset the stream, or broken the connection: the events that say so come next."""


class GrpcConnection(asyncio.Protocol):
    """One connection. Made by the server's listener; lives on the loop's thread."""

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        access: Access,
        *,
        max_message_bytes: int,
        on_opened: Callable[["GrpcConnection"], None],
        on_closed: Callable[["GrpcConnection"], None],
    ) -> None:
        self.max_message_bytes = max_message_bytes
        self.peer = UNKNOWN_PEER
        self._methods = methods
        self._access = access
        self._on_opened = on_opened
        self._on_closed = on_closed
        self._http = Connection(Role.SERVER, _CONFIGURATION)
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._handshake: asyncio.TimerHandle | None = None
        self._rpcs: dict[int, Rpc] = {}
        self._paused: set[Rpc] = set()
        self._held_bytes = 0
        self._is_choked = False
        self._is_flushing = False
        self._is_leaving = False

    # What the transport says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller has connected."""
        self._transport = cast(asyncio.Transport, transport)
        self.peer = peer_of(transport)
        self._http.initiate_connection(_SETTINGS)
        self._http.set_local_window_size(_CONNECTION_WINDOW)
        self._handshake = self._loop.call_later(_HANDSHAKE_S, self._transport.abort)
        self._flush()
        self._on_opened(self)

    def data_received(self, data: bytes) -> None:
        """Bytes have arrived."""
        try:
            self._http.receive_data(data)
        except NGH2Error as error:
            self._lose(error)
            return
        self._take_events()
        self._flush()

    def eof_received(self) -> bool:
        """The caller sends no more; RPCs half done are lost with it."""
        return False

    def pause_writing(self) -> None:
        """The caller does not read: what is to be said waits where it can be counted."""
        self._is_choked = True

    def resume_writing(self) -> None:
        """The caller reads again."""
        self._is_choked = False
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed: nobody waits for an answer any more."""
        self._transport = None
        if self._handshake is not None:
            self._handshake.cancel()
        rpcs, self._rpcs = self._rpcs, {}
        try:
            for rpc in rpcs.values():
                self._abandon(rpc, is_lost=True)
        finally:
            self._on_closed(self)

    # What the frames say.

    def _take_events(self) -> None:
        http = self._http
        for event in http.events():
            kind = type(event)
            if kind is DataReceived:
                self._take_data(cast(DataReceived, event))
            elif kind is RequestReceived:
                self._open(cast(RequestReceived, event))
            elif kind is StreamClosed or kind is StreamReset:
                rpc = self._rpcs.pop(cast(StreamClosed, event).stream_id, None)
                if rpc is not None:
                    self._abandon(rpc, is_lost=False)
            elif kind is TrailersReceived:
                rpc = self._rpcs.get(cast(TrailersReceived, event).stream_id)
                if rpc is not None:
                    rpc.feed(b"", is_last=True)
            elif kind is SettingsReceived and self._handshake is not None:
                self._handshake.cancel()
                self._handshake = None

    def _take_data(self, event: DataReceived) -> None:
        stream_id, data = event.stream_id, event.data
        rpc = self._rpcs.get(stream_id)
        if rpc is not None:
            rpc.feed(data, is_last=event.end_stream)
            if rpc.is_paused and not rpc.is_over:
                rpc.untaken_bytes += len(data)
                return
            if rpc.held_bytes != rpc.counted_bytes:
                self._count_held(rpc)
                self._bound_held(rpc)
        if data:
            self._acknowledge(stream_id, len(data))

    def _acknowledge(self, stream_id: int, amount: int) -> None:
        with contextlib.suppress(NGH2Error):
            self._http.acknowledge_received_data(amount, stream_id)

    def _count_held(self, rpc: Rpc) -> None:
        # A running sum: a thousand RPCs may be half sent, and a frame may bring one byte of one.
        held = 0 if rpc.is_over else rpc.held_bytes
        self._held_bytes += held - rpc.counted_bytes
        rpc.counted_bytes = held

    def _bound_held(self, rpc: Rpc) -> None:
        if self._held_bytes > self.max_message_bytes * _MAX_HELD:
            rpc.fail(Exhausted("too_many_bytes", "too many messages at once are half sent here"))

    def _open(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        fields = dict(event.headers)
        method = self._methods.get(fields[b":path"]) if b":path" in fields else None
        if fields.get(b":method") != b"POST":
            self._respond(stream_id, _NOT_POST)
            return
        if not fields.get(b"content-type", b"").startswith(b"application/grpc"):
            self._respond(stream_id, _NOT_GRPC)
            return
        encoding = fields.get(b"grpc-encoding", b"identity")
        if method is None:
            self._refuse(stream_id, f"no method {fields.get(b':path', b'')!r:.140} is served here")
            return
        if encoding != b"identity" and encoding not in ENCODINGS:
            self._refuse(stream_id, f"messages packed with {encoding!r:.40} are not read here")
            return
        rpc = method.open(self, stream_id, fields)
        self._rpcs[stream_id] = rpc
        try:
            if method.asks is PUBLIC:
                self._bound_public(rpc)
            rpc.caller = admitted(self._access, method.asks, fields, self.peer)
            rpc.open()
            if self._http.queued_body_size() > self.max_message_bytes * _MAX_HELD:
                raise Exhausted("unread", "read the answers that wait before you ask for more")
        except Exception as error:  # noqa: BLE001 - the caller must hear of every failure
            rpc.fail(as_ours(error))
            return
        if event.end_stream:
            rpc.feed(b"", is_last=True)

    def _bound_public(self, rpc: Rpc) -> None:
        """Who has shown no key has little of our memory and time."""
        rpc.max_message_bytes = min(rpc.max_message_bytes, _PUBLIC_BYTES)
        rpc.is_public = True
        if sum(each.is_public for each in self._rpcs.values()) > _MOST_PUBLIC:
            raise Exhausted("too_many_rpcs", "end some of those that are open on this connection")

    def _refuse(self, stream_id: int, message: str) -> None:
        status = status_fields(Status.UNIMPLEMENTED, message)
        self._respond(stream_id, (*_HEADERS, *status))

    def _respond(self, stream_id: int, fields: Trailers) -> None:
        """Answer with header fields alone."""
        with contextlib.suppress(*_GONE):
            self._http.send_response(stream_id, fields, end_stream=True)

    def _abandon(self, rpc: Rpc, *, is_lost: bool) -> None:
        rpc.is_over = True
        self.release(rpc)
        rpc.abandon(is_lost=is_lost)

    # What RPCs do.

    def identify(self, metadata: Mapping[bytes, bytes]) -> Caller:
        """Who sends this metadata, as of now."""
        return self._access.identify(metadata, self.peer)

    def answer(self, rpc: Rpc, message: bytes) -> None:
        """Send the one answer of an RPC, and that it went well."""
        stream_id = rpc.stream_id
        del self._rpcs[stream_id]
        self._count_held(rpc)
        http = self._http
        try:
            http.send_response(stream_id, _HEADERS)
            http.send_data(stream_id, message)
            http.send_trailers(stream_id, _OK)
        except _GONE:
            return
        self._flush_soon()

    def send(self, rpc: Rpc, message: bytes) -> None:
        """Send one of several answers."""
        try:
            if not rpc.has_headers:
                rpc.has_headers = True
                self._http.send_response(rpc.stream_id, _HEADERS)
            self._http.send_data(rpc.stream_id, message)
        except _GONE:
            return
        self._flush_soon()

    def end(self, rpc: Rpc, status: Trailers) -> None:
        """Send how an RPC ended."""
        del self._rpcs[rpc.stream_id]
        self.release(rpc)
        if rpc.has_headers:
            with contextlib.suppress(*_GONE):
                self._http.send_trailers(rpc.stream_id, status)
        else:
            self._respond(rpc.stream_id, (*_HEADERS, *status))
        self._flush_soon()

    def unsent_bytes(self, rpc: Rpc) -> int:
        """What was sent and has not left because the caller does not read."""
        return self._http.queued_body_size(rpc.stream_id)

    def pause(self, rpc: Rpc) -> None:
        """Let the caller send no more than it may already, and look at the RPC again later."""
        self._paused.add(rpc)

    def release(self, rpc: Rpc) -> None:
        """Let the caller send on, as much as has been taken."""
        self._paused.discard(rpc)
        self._count_held(rpc)
        amount, rpc.untaken_bytes = rpc.untaken_bytes, 0
        if amount:
            self._acknowledge(rpc.stream_id, amount)
            self._flush_soon()

    # What goes out.

    def _flush_soon(self) -> None:
        # All answers of one turn leave in one write.
        if not self._is_flushing:
            self._is_flushing = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flushing = False
        transport = self._transport
        if transport is None or self._is_choked:
            return
        try:
            data = self._http.data_to_send()
        except NGH2Error as error:
            self._lose(error)
            return
        if data:
            transport.write(data)
        if self._paused:
            for rpc in tuple(self._paused):
                rpc.look_again()
        if not self._http.want_read:
            # The caller broke the protocol, and has just been told.
            transport.close()
        elif self._is_leaving and not self._rpcs and not self._http.want_write:
            transport.close()

    def _lose(self, error: Exception) -> None:
        if self._transport is not None:
            _log.debug("a gRPC connection broke the protocol: %s", error)
            self._transport.abort()

    # What the server says.

    def finish_soon(self) -> None:
        """Tell the caller to go elsewhere, answer what has come, then close."""
        if self._transport is None:
            return
        with contextlib.suppress(NGH2Error):
            self._http.send_shutdown_notice()
        self._flush()
        self._loop.call_later(_LAST_CALLS_S, self._say_goodbye)

    def _say_goodbye(self) -> None:
        self._is_leaving = True
        for rpc in tuple(self._rpcs.values()):
            rpc.drain()
        with contextlib.suppress(NGH2Error):
            self._http.send_goaway()
        self._flush()

    def give_up(self) -> None:
        """Close at once, whatever is open."""
        if self._transport is not None:
            # It is we who go, not the caller.
            rpcs, self._rpcs = self._rpcs, {}
            for rpc in rpcs.values():
                self._abandon(rpc, is_lost=False)
            self._transport.abort()
