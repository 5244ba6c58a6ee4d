"""Writing an answer: its JSON, its ETag, and where what was made lies."""

import dataclasses
import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from modelyard.core.administration.operation import Operation, Request
from modelyard.core.administration.paths import PREFIX
from modelyard.core.errors import Conflict, Invalid, NotFound


def encode(answer: object) -> bytes:
    """An answer as JSON. The same value gives the same bytes, in every process."""
    return msgspec.json.encode(answer, order="deterministic")


def etag_of(body: bytes) -> str:
    """The strong ETag of a representation."""
    return f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def has_etag(operation: Operation) -> bool:
    """Whether the answer is the state of something that can be changed under an ETag."""
    if operation.guards is not None:
        return bool(operation.guards.operation.answer == operation.answer)
    return operation.method == "GET"


def location_of(operation: Operation, body: bytes) -> str:
    """Where what was made lies; empty where nothing was."""
    if not operation.location:
        return ""
    return PREFIX + operation.location.format_map(_quoted(msgspec.json.decode(body)))


def _quoted(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _quoted(each) for name, each in value.items()}
    return quote(str(value), safe="")


@dataclasses.dataclass(frozen=True, slots=True)
class Conditions:
    """`If-Match` and `If-None-Match` (RFC 9110, 13.1), as lists of ETags; empty where not given."""

    match: Sequence[str] = ()
    none_match: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.match or self.none_match)

    @staticmethod
    def read(match: str, none_match: str) -> "Conditions":
        """Out of the two headers."""
        return Conditions(_listed(match), _listed(none_match))

    def are_met(self, etag: str | None) -> bool:
        """Whether a change may be made to what has this ETag; None where it is not there."""
        if self.match and not (etag is not None and ("*" in self.match or etag in self.match)):
            return False
        return not (
            self.none_match
            and etag is not None
            and ("*" in self.none_match or etag in self.none_match)
        )

    def is_known(self, etag: str) -> bool:
        """Whether a reader has this already."""
        return "*" in self.none_match or etag in [
            each.removeprefix("W/") for each in self.none_match
        ]

    def check(self, operation: Operation, request: Request[Any], read: Any) -> None:
        """Raise `Conflict` unless what a request changes is as its caller has seen it.

        `read` gives the answer to another request.
        """
        if operation.guards is None:
            if self:
                raise Invalid(
                    "no_etag", "what this changes has no ETag, so nothing can be held against it"
                )
            return
        if operation.must_match and not self.match:
            raise Invalid(
                "precondition_required",
                "several people change this as a whole: read it, and send its ETag as If-Match",
                field="If-Match",
            )
        if not self:
            return
        guard: Any = operation.guards
        try:
            present = read(
                guard(
                    **{each.name: getattr(request, each.name) for each in dataclasses.fields(guard)}
                )
            )
        except NotFound:
            etag = None
        else:
            etag = etag_of(encode(present))
        if not self.are_met(etag):
            raise Conflict(
                "stale",
                "somebody has changed it since you read it: read it again, and decide anew",
                field="If-Match",
            )


def _listed(header: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in header.split(",") if each.strip())
