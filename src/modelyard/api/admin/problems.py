"""Errors of the administration: problem details (RFC 9457)."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from litestar import Response

from modelyard.api.http.errors import error_headers, status_of
from modelyard.core.errors import Kind, ModelyardError, Unauthenticated
from modelyard.core.masking import mask
from modelyard.core.ports import Caller

PROBLEM: Final = "application/problem+json"

TITLES: Final[Mapping[Kind, str]] = {
    Kind.INVALID: "The request is wrong",
    Kind.UNAUTHENTICATED: "Nobody knows who is asking",
    Kind.DENIED: "Who is asking may not",
    Kind.NOT_FOUND: "There is no such thing",
    Kind.CONFLICT: "The state of things forbids it",
    Kind.EXHAUSTED: "A bound was reached",
    Kind.UNAVAILABLE: "Something needed is down",
    Kind.TIMEOUT: "It took too long",
    Kind.CANCELLED: "The caller went away",
    Kind.INTERNAL: "The server failed",
}
_STATUS: Final = {
    "stale": 412,
    "policy_changed": 412,
    "precondition_required": 428,
    "idempotency_key_reused": 422,
}
"""Codes for which HTTP has a more exact word than the rest of the server uses."""


def problem_status(error: ModelyardError) -> int:
    """The HTTP status of an error here."""
    return _STATUS.get(error.code) or status_of(error)


def problem(
    error: ModelyardError, path: str, request_id: str, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """An error as a problem. `type` is stable for each `code`."""
    status = problem_status(error)
    body: dict[str, Any] = {
        "type": f"urn:modelyard:error:{error.code}",
        "title": TITLES[error.kind],
        "status": status,
        "detail": error.message,
        "instance": mask(path)[:200],
        "code": error.code,
        "kind": error.kind,
        "request_id": request_id,
    }
    if error.field is not None:
        body["field"] = error.field
    return Response(
        orjson.dumps(body),
        status_code=status,
        media_type=PROBLEM,
        headers={
            **dict(error_headers(error)),
            **(headers or {}),
            "cache-control": "no-store",
            "x-request-id": request_id,
        },
    )


def check_key(caller: Caller) -> None:
    """Raise `Unauthenticated` for who came in without a key, as an open server lets everybody."""
    if not caller.principal.key:
        raise Unauthenticated(
            "key_needed",
            "administration needs a key, on an open server too: send 'Authorization: Bearer KEY'",
        )
