"""Reading spools: one's own while it is written, and those that dead processes left behind.

What is read is believed only where its checksum fits. In a spool whose writer is dead the last
event may be half-written, which is nobody's answered call; any other that is not whole is damaged.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from modelyard.core.usage import Subject
from modelyard.gateway.metering import segment as segments
from modelyard.gateway.metering import tally as tallies
from modelyard.gateway.metering.batch import Batch
from modelyard.gateway.metering.layout import (
    EVENT_BYTES,
    HEAD_BYTES,
    KNOWN,
    OUTCOMES,
    Events,
    Head,
    are_whole,
    as_events,
    parse_head,
    read_definitions,
)
from modelyard.gateway.metering.spool import Spool
from modelyard.gateway.metering.tally import Missed

DAMAGED: Final = ".damaged"
"""How the name of a segment ends that nobody can read."""
MOST_EVENTS: Final = 65_536
"""In one batch: three megabytes, before they are compressed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A segment as it lies on the disk. `places` are those that were written."""

    path: Path
    head: Head
    events: Events
    whole: "np.typing.NDArray[np.bool_]"
    subjects: dict[int, Subject]

    @property
    def places(self) -> int:
        """How many events were written, damaged ones included."""
        return len(self.events)

    def batch(self, position: int, most: int = MOST_EVENTS) -> Batch:
        """The events from a position in the spool on."""
        start = max(position - self.head.first, 0)
        events = self.events[start : start + most]
        good = events[self.whole[start : start + most]]
        return _batch(
            self.head.spool,
            self.head.prefix,
            self.head.first + start,
            len(events),
            good,
            self.subjects,
        )


def read_segment(path: Path) -> Found | None:
    """What lies in a segment; None where nothing was begun there.

    Raises `ValueError` where its head is damaged: nobody knows whose events those are.
    """
    data = path.read_bytes()
    head = parse_head(data) if len(data) >= HEAD_BYTES else None
    if head is None:
        if not any(data[HEAD_BYTES:]):
            return None
        raise ValueError(f"the head of {path.name} is damaged")
    subjects, bottom = read_definitions(data)
    room = (bottom - HEAD_BYTES) // EVENT_BYTES
    events = as_events(memoryview(data)[HEAD_BYTES : HEAD_BYTES + room * EVENT_BYTES])
    touched = np.any(events.view(np.uint8).reshape(room, EVENT_BYTES) != 0, axis=1)
    events = events[: _end(np.asarray(touched))]
    whole = are_whole(events) & _are_sound(events, subjects)
    # What follows the last whole event has a checksum, or its writer died before that: then it was
    # a call that nobody has had the answer of.
    end = _end(whole)
    while end < len(events) and events["crc"][end]:
        end += 1
    events, whole = events[:end], whole[:end]
    return Found(path=path, head=head, events=events, whole=whole, subjects=subjects)


def own_batches(spool: Spool, position: int) -> Iterator[Batch]:
    """What this process had written when it was asked, from a position on.

    What is written meanwhile waits for the next time: many small batches would cost the more.
    """
    end = spool.written
    for segment in spool.segments:
        position = max(position, segment.first)
        while position < min(end, segment.first + segment.count):
            # Our own memory, behind ourselves: nothing there is half-written.
            most = min(MOST_EVENTS, end - position)
            events = as_events(segment.read(position - segment.first, most))
            yield _batch(
                spool.id, spool.prefix, position, len(events), events, dict(segment.subjects)
            )
            position += len(events)


class Orphan:
    """A spool whose writer is dead, held so that nobody else copies it meanwhile."""

    def __init__(self, path: Path, fd: int) -> None:
        self.id = path.stem
        self._path = path
        self._fd = fd

    @property
    def files(self) -> list[Path]:
        """Its segments."""
        return sorted(self._path.parent.glob(f"{self.id}.*{segments.SUFFIX}"))

    def missed(self) -> dict[Missed, int]:
        """How many calls of whom could not be recorded."""
        return tallies.read_counts(self._path.read_bytes())

    def delete(self) -> None:
        """Remove it, when all of it was copied."""
        for path in self.files:
            path.unlink(missing_ok=True)
        self._path.unlink(missing_ok=True)

    def release(self) -> None:
        """Let others have it."""
        os.close(self._fd)


@contextlib.contextmanager
def hold_orphans(folder: Path) -> Iterator[list[Orphan]]:
    """The spools of dead processes that nobody else is copying."""
    held: list[Orphan] = []
    try:
        for path in sorted(folder.glob(f"*{tallies.SUFFIX}")):
            orphan = _hold(path)
            if orphan is not None:
                held.append(orphan)
        yield held
    finally:
        for orphan in held:
            orphan.release()


def _hold(path: Path) -> Orphan | None:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Somebody else may have copied and deleted it since it was opened.
        if os.fstat(fd).st_nlink:
            return Orphan(path, fd)
    except BlockingIOError:
        pass
    os.close(fd)
    return None


def _end(marked: "np.typing.NDArray[np.bool_]") -> int:
    """The place behind the last that is marked."""
    places = np.flatnonzero(marked)
    return int(places[-1]) + 1 if len(places) else 0


def _are_sound(events: Events, subjects: dict[int, Subject]) -> "np.typing.NDArray[np.bool_]":
    """Which events have a subject that can be read, and codes that there are."""
    known = np.isin(events["subject"], np.array(list(subjects), np.uint32))
    sound: np.typing.NDArray[np.bool_] = (
        known & (events["outcome"] < len(OUTCOMES)) & (events["known"] < len(KNOWN))
    )
    return sound


def _batch(
    spool: str,
    prefix: str,
    first: int,
    places: int,
    events: Events,
    subjects: dict[int, Subject],
) -> Batch:
    used = np.unique(events["subject"]).tolist()
    return Batch(
        spool=spool,
        prefix=prefix,
        first=first,
        places=places,
        events=events,
        subjects={number: subjects[number] for number in used},
        damaged=places - len(events),
    )
