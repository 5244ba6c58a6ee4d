"""Captured payloads: what calls carried and were answered, kept for a time."""

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
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


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureState:
    """What became of the calls that were chosen to be kept, and of the payloads in them."""

    kept: int = 0
    no_room: int = 0
    """More came than could be written."""
    too_large: int = 0
    no_subject: int = 0
    """Nobody could say whom they are about."""
    failed: int = 0

    @property
    def dropped(self) -> int:
        """All that were not kept."""
        return self.no_room + self.too_large + self.no_subject + self.failed


def merge_captures(states: Iterable[CaptureState]) -> CaptureState:
    """What became of those of several workers."""
    names = [each.name for each in fields(CaptureState)]
    counts = [[getattr(state, name) for name in names] for state in states]
    return CaptureState(**dict(zip(names, map(sum, zip(*counts, strict=True)), strict=False)))


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
