"""A segment that is being written: room taken beforehand, and written through a mapping."""

import contextlib
import mmap
import os
import time
from pathlib import Path
from typing import Final

from modelyard.core.usage import Subject
from modelyard.gateway.metering.layout import (
    COPY_AT,
    EVENT_BYTES,
    HEAD_BYTES,
    HEAP_AT,
    Head,
    encode_definition,
    encode_heap,
)

SUFFIX: Final = ".segment"


class Segment:
    """A file of events that one process writes, on one thread; another thread may read behind it.

    Its room is taken when it is made, so that a full disk is found out then: raises `OSError`.
    `at` is where the next event goes, `last` the last place that an event fits at. Whoever writes
    an event moves `at` when the event is whole.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.first = 0
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(self._fd, 0, size)
            self.memory = mmap.mmap(self._fd, size)
        except BaseException:
            os.close(self._fd)
            with contextlib.suppress(OSError):
                path.unlink()
            raise
        self.at = HEAD_BYTES
        self._bottom = size
        self.last = size - EVENT_BYTES
        self._synced = -1
        self.subjects: dict[int, Subject] = {}

    @property
    def count(self) -> int:
        """Events that were written."""
        return (self.at - HEAD_BYTES) // EVENT_BYTES

    def begin(self, spool: str, prefix: str, first: int) -> None:
        """Make it the spool's next: its first event has the place `first`."""
        self.first = first
        head = Head(
            spool=spool, prefix=prefix, first=first, size=self.size, created_ns=time.time_ns()
        )
        self._set_bottom(self._bottom)
        data = head.encode()
        for start in (0, COPY_AT):
            self.memory[start : start + len(data)] = data

    def define(self, number: int, subject: Subject) -> bool:
        """Say what a number means, for the events that follow; False where there is no room."""
        definition = encode_definition(number, subject)
        bottom = self._bottom - len(definition)
        if bottom < self.at + EVENT_BYTES:
            return False
        # Said first: readers must not take what is half-written down there for events.
        self._set_bottom(bottom)
        self.memory[bottom : self._bottom] = definition
        self._bottom = bottom
        self.last = bottom - EVENT_BYTES
        self.subjects[number] = subject
        return True

    def read(self, place: int, most: int) -> bytes:
        """The events from a place of the segment on, at most so many; from any thread.

        From the file and not from the mapping, so that the writing thread is not held up.
        """
        start = HEAD_BYTES + place * EVENT_BYTES
        return os.pread(self._fd, min(self.at - start, most * EVENT_BYTES), start)

    def sync(self) -> None:
        """Make what was written so far survive a power cut."""
        at = self.at
        if at != self._synced:
            os.fdatasync(self._fd)
            self._synced = at

    def close(self) -> None:
        """Let go of the file, which stays."""
        self.memory.close()
        os.close(self._fd)

    def _set_bottom(self, bottom: int) -> None:
        data = encode_heap(bottom)
        self.memory[HEAP_AT : HEAP_AT + len(data)] = data
