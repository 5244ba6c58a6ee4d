"""One RPC: messages come in, messages and a status go out. Each method is a subclass."""

import logging
import os
from collections.abc import Mapping
from typing import Final, Protocol

from modelyard.api.asks import NOBODY, actor_of, request_id_of
from modelyard.api.grpc.errors import Trailers, trailers
from modelyard.api.grpc.framing import PREFIX_BYTES, deadline_of, framed, too_large, unpacked
from modelyard.core.errors import Internal, Invalid, ModelyardError
from modelyard.core.identity import Actor, Peer
from modelyard.core.ports import Caller

_log: Final = logging.getLogger(__name__)
_FAILED: Final = "the server failed to answer; its log has the reason under {}"


class Stream(Protocol):
    """What an RPC needs of the connection that it came by."""

    max_message_bytes: int
    peer: Peer

    def identify(self, metadata: Mapping[bytes, bytes]) -> Caller:
        """Who sends this metadata, as of now; raises as `Access.identify`."""
        ...

    def answer(self, rpc: "Rpc", message: bytes) -> None:
        """Send the one answer of an RPC, and that it went well."""
        ...

    def send(self, rpc: "Rpc", message: bytes) -> None:
        """Send one of several answers."""
        ...

    def end(self, rpc: "Rpc", status: Trailers) -> None:
        """Send how an RPC ended."""
        ...

    def unsent_bytes(self, rpc: "Rpc") -> int:
        """What was sent and has not left because the caller does not read."""
        ...

    def pause(self, rpc: "Rpc") -> None:
        """Let the caller send no more than it may already, and look at the RPC again later."""
        ...

    def release(self, rpc: "Rpc") -> None:
        """Let the caller send on, as much as has been taken."""
        ...


class Rpc:
    """One RPC on the loop's thread. A method overrides `receive`, `finish_reading` and `abandon`.

    What these raise ends the RPC: an error of ours as it is, any other as `internal`. `metadata`
    are the header fields of the request by lower-case name, of a repeated one the last. `caller` is
    who was let in when the metadata was here, and nobody where the method is public.
    """

    __slots__ = (
        "_has_all",
        "_partial",
        "caller",
        "counted_bytes",
        "deadline_ns",
        "has_headers",
        "is_over",
        "is_paused",
        "is_public",
        "max_message_bytes",
        "metadata",
        "stream",
        "stream_id",
        "untaken_bytes",
    )

    def __init__(self, stream: Stream, stream_id: int, metadata: Mapping[bytes, bytes]) -> None:
        self.stream = stream
        self.stream_id = stream_id
        self.metadata = metadata
        self.caller: Caller = NOBODY
        self.deadline_ns: int | None = None
        self.is_over = False
        self.is_paused = False
        self.is_public = False
        self.max_message_bytes = stream.max_message_bytes
        self.has_headers = False
        self.untaken_bytes = 0
        self.counted_bytes = 0
        self._partial: bytearray | None = None
        self._has_all = False

    def receive(self, message: bytes) -> None:
        """Take one message."""
        raise NotImplementedError

    def finish_reading(self) -> None:
        """The caller sends no more messages."""
        raise NotImplementedError

    def abandon(self, *, is_lost: bool) -> None:
        """Nobody will read an answer: the caller cancelled, was out of time, or, where the
        connection is lost, went away."""

    def identify(self) -> Caller:
        """Who calls, as of now: what was asked when the metadata came may have been long ago."""
        return self.stream.identify(self.metadata)

    def acting(self) -> Actor:
        """Who changes something by this RPC, for the audit."""
        return actor_of(self.caller, self.stream.peer, request_id_of(self.metadata))

    def drain(self) -> None:
        """The server stops: finish what was taken, and take no more."""

    def look_again(self) -> None:
        """Something has left for the caller; who is paused for that may go on."""

    def open(self) -> None:
        """Read what the metadata says of the RPC itself; raises `Invalid`."""
        timeout = self.metadata.get(b"grpc-timeout")
        if timeout is not None:
            self.deadline_ns = deadline_of(timeout)

    def feed(self, data: bytes, *, is_last: bool) -> None:
        """Take bytes as they arrive, and hand on every message that is whole."""
        try:
            if is_last:
                self._has_all = True
            if (
                self._partial is None
                and len(data) >= PREFIX_BYTES
                and not data[0]
                and len(data) - PREFIX_BYTES == int.from_bytes(data[1:PREFIX_BYTES], "big")
                and len(data) - PREFIX_BYTES <= self.max_message_bytes
                and not self.is_paused
            ):
                self.receive(data[PREFIX_BYTES:])
                if is_last and not self.is_paused:
                    self.finish_reading()
            elif data or is_last:
                self._feed_part(data)
        except Exception as error:  # noqa: BLE001 - the caller must hear of every failure
            self.fail(as_ours(error))

    def pause(self) -> None:
        """Take no more messages until `resume`."""
        if not self.is_paused:
            self.is_paused = True
            self.stream.pause(self)

    def resume(self) -> None:
        """Go on after a pause, with what arrived meanwhile."""
        self.is_paused = False
        try:
            self._feed_part(b"")
        except Exception as error:  # noqa: BLE001 - the caller must hear of every failure
            self.fail(as_ours(error))
        if not self.is_paused:
            self.stream.release(self)

    def _feed_part(self, data: bytes) -> None:
        if self._partial is None:
            self._partial = bytearray()
        partial = self._partial
        partial += data
        max_bytes = self.max_message_bytes
        while len(partial) >= PREFIX_BYTES and not self.is_paused and not self.is_over:
            length = int.from_bytes(partial[1:PREFIX_BYTES], "big")
            if length > max_bytes:
                raise too_large(max_bytes)
            end = PREFIX_BYTES + length
            if len(partial) < end:
                break
            is_compressed = partial[0]
            with memoryview(partial) as view:
                message = bytes(view[PREFIX_BYTES:end])
            del partial[:end]
            if is_compressed:
                message = unpacked(message, self.metadata.get(b"grpc-encoding"), max_bytes)
            self.receive(message)
        if self._has_all and not self.is_paused and not self.is_over:
            if partial:
                raise Invalid("bad_message", "the stream ended inside a message")
            self.finish_reading()

    @property
    def held_bytes(self) -> int:
        """What has arrived and is no whole request yet, or was not asked for yet."""
        return len(self._partial) if self._partial else 0

    def reply(self, message: bytes) -> None:
        """Answer with one message, and end well."""
        if not self.is_over:
            self.is_over = True
            self.stream.answer(self, framed(message))

    def send(self, message: bytes) -> None:
        """Answer with one of several messages."""
        if not self.is_over:
            self.stream.send(self, framed(message))

    def finish(self) -> None:
        """End well."""
        self._end(_OK)

    def fail(self, error: ModelyardError) -> None:
        """End with an error."""
        self._end(trailers(error))

    def _end(self, status: Trailers) -> None:
        if not self.is_over:
            self.is_over = True
            self._partial = None
            self.stream.end(self, status)


_OK: Final[Trailers] = ((b"grpc-status", b"0"),)


def as_ours(error: Exception) -> ModelyardError:
    """An error as the caller may see it: of one that is not ours only the number in the log."""
    if isinstance(error, ModelyardError):
        return error
    reference = os.urandom(8).hex()
    _log.error("gRPC call %s failed", reference, exc_info=error)
    return Internal("internal", _FAILED.format(reference))
