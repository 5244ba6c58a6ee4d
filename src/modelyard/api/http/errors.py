"""Errors over HTTP: one status a kind, one body for all, and the headers that go with some."""

import math
from typing import Final

import orjson

from modelyard.api.refusals import headroom_fields
from modelyard.core.errors import Exhausted, Kind, ModelyardError

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


def error_headers(error: ModelyardError) -> list[tuple[str, str]]:
    """What a refused caller's program goes by: how to say who it is, when to come again, and how
    its limit stands.

    Sources: RFC 9110, 10.2.3 and 11.6.1; RFC 6750, 3.
    """
    headers = []
    if error.kind is Kind.UNAUTHENTICATED:
        headers.append(("www-authenticate", 'Bearer realm="modelyard"'))
    if error.retry_after_s is not None:
        headers.append(("retry-after", str(max(1, math.ceil(error.retry_after_s)))))
    if isinstance(error, Exhausted) and error.headroom is not None:
        headers += headroom_fields(error.headroom)
    return headers


def error_body(error: ModelyardError) -> bytes:
    """The JSON body: `error` is the message, as OIP clients expect; the rest is for programs."""
    body = {"error": error.message, "kind": error.kind, "code": error.code}
    if error.field is not None:
        body["field"] = error.field
    return orjson.dumps(body)
