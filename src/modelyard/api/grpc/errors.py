"""Errors over gRPC: a status, the message as its details, and the rest as trailing metadata."""

from typing import Final
from urllib.parse import quote

import grpc

from modelyard.core.errors import Kind, ModelyardError

STATUSES: Final[dict[Kind, grpc.StatusCode]] = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.DENIED: grpc.StatusCode.PERMISSION_DENIED,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.CONFLICT: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.TIMEOUT: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.CANCELLED: grpc.StatusCode.CANCELLED,
    Kind.INTERNAL: grpc.StatusCode.INTERNAL,
}
"""Every kind of error as gRPC says it."""

# Details and metadata share the header list, of which clients read 8 KiB unless told otherwise,
# and a character may cost nine bytes once it is percent-encoded.
_MAX_MESSAGE: Final = 500
_MAX_FIELD: Final = 128


def details(error: ModelyardError) -> str:
    """The message, cut where a name of the caller's made it longer than a header may be."""
    message = error.message
    return message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…"


def trailers(error: ModelyardError) -> tuple[tuple[str, str], ...]:
    """Kind, code and field; the field percent-encoded, since metadata holds only ASCII."""
    found = (("modelyard-kind", error.kind.value), ("modelyard-code", error.code))
    if error.field is None:
        return found
    return (*found, ("modelyard-field", quote(error.field[:_MAX_FIELD], safe=" []()/'@:,+")))
