"""Captured payloads: what calls carried and were answered, kept for a time."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class CapturedPayload:
    """What is to be kept of one call about one subject, redacted already.

    `subject` says whom it is about, "" for nobody; `document` is JSON. Neither is ever shown or
    written as it is. Moments are Unix seconds.
    """

    call: str
    model: str
    version: int
    tenant: str
    key: str
    outcome: str
    rows: int
    at: float
    expires_at: float
    subject: str = field(default="", repr=False)
    document: bytes = field(repr=False)


class PayloadSink(Protocol):
    """Where captured payloads go. Used from a thread of its own."""

    def write(self, payloads: Sequence[CapturedPayload]) -> int:
        """Keep them, encrypted, all or none; how many. Raises `Unavailable`, `Exhausted`."""
        ...

    def sweep(self) -> int:
        """Delete what has expired; how many payloads. Cheap where nothing has."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadRecord:
    """What is known of a kept payload without decrypting it.

    `subject` is a keyed digest, "" where it is about nobody; `size_bytes` is of what is stored.
    """

    id: int
    call: str
    model: str
    version: int
    tenant: str
    key: str
    outcome: str
    rows: int
    at: datetime.datetime
    expires: datetime.datetime
    subject: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """A payload, decrypted. `document` has `inputs` and `outputs` by name, and what was `redacted`.

    `error` is there instead of outputs where the call failed.
    """

    record: PayloadRecord
    document: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What an erasure found: how many payloads, about the subject of this keyed digest."""

    subject: str
    payloads: int
