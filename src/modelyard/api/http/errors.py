"""Errors over HTTP: one status a kind, one body for all."""

from typing import Final

import orjson

from modelyard.core.errors import Kind, ModelyardError

STATUS: Final[dict[Kind, int]] = {
    Kind.INVALID: 400,
    Kind.UNAUTHENTICATED: 401,
    Kind.DENIED: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.EXHAUSTED: 429,
    Kind.UNAVAILABLE: 503,
    Kind.TIMEOUT: 504,
    Kind.CANCELLED: 499,
    Kind.INTERNAL: 500,
}

_BY_CODE: Final[dict[str, int]] = {
    "body_too_large": 413,
    "head_too_large": 431,
    "method_not_allowed": 405,
    "not_acceptable": 406,
    "not_implemented": 501,
    "unsupported_content_type": 415,
    "unsupported_encoding": 415,
}
"""Codes for which HTTP has a more exact word than their kind's."""


def status_of(error: ModelyardError) -> int:
    """The HTTP status of an error."""
    return _BY_CODE.get(error.code) or STATUS[error.kind]


def error_body(error: ModelyardError) -> bytes:
    """The JSON body: `error` is the message, as OIP clients expect; the rest is for programs."""
    body = {"error": error.message, "kind": error.kind, "code": error.code}
    if error.field is not None:
        body["field"] = error.field
    return orjson.dumps(body)
