"""A batch: events of one spool that follow each other, on their way to the database."""

import datetime
import functools
import hashlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from modelyard.core.call import Outcome
from modelyard.core.usage import STEPS, Known, Subject, UsageEvent, cost_nano
from modelyard.gateway.metering.layout import (
    BODY,
    EVENT,
    EVENT_BYTES,
    HOUR_NS,
    KNOWN,
    OUTCOMES,
    Events,
)

_LEVEL: Final = 1
_INT64: Final = 2**63
_CODES: Final = 16
"""More than there are of either outcomes or ways of knowing."""
_COLUMNS: Final = tuple(name for name in EVENT.names or () if name != "crc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Events of a spool: the place of the first among all, and how many places they take.

    `events` are the whole ones of them, with their `subjects`; the `damaged` others are lost.
    """

    spool: str
    prefix: str
    first: int
    places: int
    events: Events
    subjects: Mapping[int, Subject]
    damaged: int = 0

    @property
    def after(self) -> int:
        """The place behind it."""
        return self.first + self.places


@dataclass(frozen=True, slots=True)
class Group:
    """What calls that are added up have in common; `hour` in Unix hours."""

    subject: int
    hour: int
    outcome: Outcome
    known: Known


@dataclass(frozen=True, slots=True)
class Sums:
    """Calls, added up. Amounts in the unit's steps, cost in billionths."""

    calls: int = 0
    rows: int = 0
    amount: int = 0
    cost: int = 0
    took_us: int = 0

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            self.calls + other.calls,
            self.rows + other.rows,
            self.amount + other.amount,
            self.cost + other.cost,
            self.took_us + other.took_us,
        )


def add_up(events: Events, subjects: Mapping[int, Subject]) -> dict[Group, Sums]:
    """The sums of events, by subject, hour, outcome and how it is known."""
    if not len(events):
        return {}
    hours = (events["arrived_ns"] // HOUR_NS).astype(np.int64)
    earliest = int(hours.min())
    codes = events["outcome"].astype(np.int64) * _CODES + events["known"]
    key = events["subject"].astype(np.int64) << 31
    key |= (hours - earliest) << 8 | codes
    groups, members = np.unique(key, return_inverse=True)

    def total(values: "np.typing.NDArray[np.int64]") -> list[int]:
        sums = np.zeros(len(groups), np.int64)
        np.add.at(sums, members, values)
        found: list[int] = sums.tolist()
        return found

    calls = np.bincount(members, minlength=len(groups)).tolist()
    rows = total(events["rows"].astype(np.int64))
    amounts = total(events["amount"].astype(np.int64))
    took = total((events["took_ns"] // 1000).astype(np.int64))
    costs = total(_costs(events, subjects))
    return {
        Group(
            key >> 31,
            (key >> 8 & 0x7FFFFF) + earliest,
            OUTCOMES[(key & 0xFF) // _CODES],
            KNOWN[(key & 0xFF) % _CODES],
        ): Sums(*each)
        for key, each in zip(
            groups.tolist(), zip(calls, rows, amounts, costs, took, strict=True), strict=True
        )
    }


def _costs(events: Events, subjects: Mapping[int, Subject]) -> "np.typing.NDArray[np.int64]":
    """What each event costs, rounded down by itself."""
    numbers = sorted(subjects)
    nano = np.array([subjects[number].nano for number in numbers], np.int64)
    amounts = events["amount"]
    if not nano.any():
        return np.zeros(len(events), np.int64)
    mine = np.searchsorted(np.array(numbers, np.uint32), events["subject"])
    if int(amounts.max()) * int(nano.max()) >= _INT64:
        tariffs = [subjects[number].tariff for number in numbers]
        each = zip(amounts.tolist(), mine.tolist(), strict=True)
        return np.array([cost_nano(amount, tariffs[which]) for amount, which in each], np.int64)
    costs: np.typing.NDArray[np.int64] = amounts.astype(np.int64) * nano[mine]
    steps = np.array([STEPS[subjects[number].unit] for number in numbers], np.int64)
    return costs if (steps == 1).all() else costs // steps[mine]


def pack(events: Events) -> bytes:
    """Events as the database keeps them, without their checksums.

    Byte by byte of each column, as those that are alike are then beside each other: a ninth is left
    where calls are many.
    """
    parts = []
    for name in _COLUMNS:
        column = np.ascontiguousarray(events[name])
        octets = column.view(np.uint8).reshape(len(column), column.itemsize)
        parts.append(np.ascontiguousarray(octets.T).data)
    return _compress(b"".join(parts))


def unpack(data: bytes) -> Events:
    """The events of `pack`; their checksums are 0."""
    octets = np.frombuffer(_decompress(data), np.uint8)
    events = np.zeros(len(octets) // BODY.size, EVENT)
    at = 0
    for name in _COLUMNS:
        column = events[name]
        planes = octets[at : at + column.nbytes].reshape(column.itemsize, len(events))
        events[name] = np.ascontiguousarray(planes.T).view(column.dtype).reshape(len(events))
        at += column.nbytes
    return events


def bodies(events: Events) -> list[bytes]:
    """The bytes of each event, without its checksum."""
    data = events.tobytes()
    return [data[at : at + BODY.size] for at in range(0, len(data), EVENT_BYTES)]


def checksum(packed: bytes) -> str:
    """What says that a batch is as it was written."""
    return hashlib.sha256(packed).hexdigest()


def encode_subjects(subjects: Mapping[int, Subject]) -> dict[str, object]:
    """Subjects by number, as JSON has them."""
    plain: dict[str, object] = msgspec.to_builtins(dict(subjects), str_keys=True)
    return plain


def decode_subjects(plain: object) -> dict[int, Subject]:
    """The subjects of `encode_subjects`."""
    return msgspec.convert(plain, dict[int, Subject], str_keys=True, strict=False)


def spelled_out(
    prefix: str, events: Events, subjects: Mapping[int, Subject]
) -> Iterator[UsageEvent]:
    """Events as people read them."""
    for event in events:
        subject = subjects[int(event["subject"])]
        amount = int(event["amount"])
        yield UsageEvent(
            call=f"{prefix}-{int(event['number']):x}",
            subject=subject,
            outcome=OUTCOMES[event["outcome"]],
            known=KNOWN[event["known"]],
            arrived=moment(int(event["arrived_ns"])),
            took_us=int(event["took_ns"]) // 1000,
            rows=int(event["rows"]),
            amount=amount,
            cost=cost_nano(amount, subject.tariff),
        )


def moment(unix_ns: int) -> datetime.datetime:
    """A moment in UTC, to the microsecond."""
    return _EPOCH + datetime.timedelta(microseconds=unix_ns // 1000)


_EPOCH: Final = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)


def _compress(data: bytes) -> bytes:
    packed: bytes = _zstd().compress(data, level=_LEVEL)
    return packed


def _decompress(data: bytes) -> bytes:
    unpacked: bytes = _zstd().decompress(data)
    return unpacked


@functools.cache
def _zstd() -> Any:
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd
