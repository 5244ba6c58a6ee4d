"""Errors over gRPC: a status, the message as its details, and the rest as trailing metadata."""

import math
from enum import IntEnum
from typing import Final
from urllib.parse import quote

from modelyard.api.refusals import headroom_fields
from modelyard.core.errors import Exhausted, Kind, ModelyardError


class Status(IntEnum):
    """The codes of gRPC that are answered here. Source: gRPC, "Status codes and their use"."""

    OK = 0
    CANCELLED = 1
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


STATUSES: Final[dict[Kind, Status]] = {
    Kind.INVALID: Status.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: Status.UNAUTHENTICATED,
    Kind.DENIED: Status.PERMISSION_DENIED,
    Kind.NOT_FOUND: Status.NOT_FOUND,
    Kind.CONFLICT: Status.FAILED_PRECONDITION,
    Kind.EXHAUSTED: Status.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: Status.UNAVAILABLE,
    Kind.TIMEOUT: Status.DEADLINE_EXCEEDED,
    Kind.CANCELLED: Status.CANCELLED,
    Kind.INTERNAL: Status.INTERNAL,
}
"""Every kind of error as gRPC says it."""

# Details and metadata share the header list, of which clients read 8 KiB unless told otherwise,
# and a character may cost nine bytes once it is percent-encoded.
_MAX_MESSAGE: Final = 500
_MAX_FIELD: Final = 128
_PLAIN: Final = " !\"#$&'()*+,-./:;<=>?@[\\]^_`{|}~"

Trailers = tuple[tuple[bytes, bytes], ...]


def details(error: ModelyardError) -> str:
    """The message, cut where a name of the caller's made it longer than a header may be."""
    message = error.message
    return message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…"


def trailers(error: ModelyardError) -> Trailers:
    """How an RPC ends that failed: status and message, kind, code, field, when to retry, and how
    the limit stands that was reached.

    `grpc-retry-pushback-ms` is what clients with a retry policy obey. The field is percent-encoded,
    as the message is by the protocol: header fields hold only ASCII.
    """
    found = [*status_fields(STATUSES[error.kind], details(error))]
    found += [
        (b"modelyard-kind", error.kind.value.encode()),
        (b"modelyard-code", error.code.encode()),
    ]
    if error.field is not None:
        field = quote(error.field[:_MAX_FIELD], safe=" []()/'@:,+")
        found.append((b"modelyard-field", field.encode()))
    if error.retry_after_s is not None:
        wait_ms = max(0, math.ceil(error.retry_after_s * 1000))
        found.append((b"retry-after", b"%d" % math.ceil(wait_ms / 1000)))
        found.append((b"grpc-retry-pushback-ms", b"%d" % wait_ms))
    if isinstance(error, Exhausted) and error.headroom is not None:
        found += [(name.encode(), text.encode()) for name, text in headroom_fields(error.headroom)]
    return tuple(found)


def status_fields(status: Status, message: str = "") -> Trailers:
    """The trailing header fields that end every RPC."""
    code = (b"grpc-status", b"%d" % status)
    return (code, (b"grpc-message", quote(message, safe=_PLAIN).encode())) if message else (code,)
