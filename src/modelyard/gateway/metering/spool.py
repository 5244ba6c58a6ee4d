"""A spool: the files that one process writes its usage events into, before their answers leave.

The writer is the event loop. A thread of the spool's own takes room ahead of it and makes what was
written survive a power cut, about once a second; so a power cut loses a second or two of events,
and a killed process none.
"""

import contextlib
import itertools
import logging
import os
import secrets
import threading
import time
from collections import deque
from pathlib import Path
from typing import Final

from modelyard.core.call import PREFIX
from modelyard.gateway.metering import tally as tallies
from modelyard.gateway.metering.layout import EVENT_BYTES, HEAD_BYTES
from modelyard.gateway.metering.segment import SUFFIX, Segment
from modelyard.gateway.metering.tally import Missed, Tally

_log = logging.getLogger(__name__)

SEGMENT_BYTES: Final = 8 * 1024 * 1024
LEAST_SEGMENT_BYTES: Final = HEAD_BYTES + 256 * EVENT_BYTES
SYNC_S: Final = 1.0


class Spool:
    """The spool of this process in a folder that all processes of a home share.

    `bound_bytes` is the most that the folder may hold, of all spools together. `current` is the
    segment that is being written, None where there was no room for one. `offset_ns` added to the
    monotonic clock is Unix time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        bound_bytes: int,
        segment_bytes: int = SEGMENT_BYTES,
        prefix: str = PREFIX,
    ) -> None:
        self.id = secrets.token_hex(6)
        self.prefix = prefix
        self.folder = folder
        self._bound = bound_bytes
        self._size = max(min(segment_bytes, bound_bytes // 4), LEAST_SEGMENT_BYTES)
        self._names = itertools.count()
        self._tally: Tally | None = None
        self._untallied: dict[Missed, int] = {}
        self._spare: Segment | None = None
        self._full: deque[Segment] = deque()
        self.current: Segment | None = None
        self._after = 0
        self._why = ""
        self.offset_ns = _unix_offset_ns()
        self._wake = threading.Event()
        self._stopping = False
        self._keeper: threading.Thread | None = None

    @property
    def trouble(self) -> str:
        """Why events cannot be recorded at the moment; empty where they can."""
        return self._why if self.current is None else ""

    @property
    def segments(self) -> list[Segment]:
        """Those that hold events, oldest first; from any thread."""
        # The current one first: if it turns meanwhile, it is found among the full ones too.
        current = self.current
        full = list(self._full)
        return full if current is None or current in full else [*full, current]

    @property
    def written(self) -> int:
        """How many events were written in all."""
        current = self.current
        return self._after if current is None else current.first + current.count

    def start(self) -> None:
        """Take the first room, and go on so and sync in a thread."""
        self.upkeep()
        self._keeper = threading.Thread(target=self._keep, name="modelyard spool", daemon=True)
        self._keeper.start()

    def turn(self) -> Segment | None:
        """Go on in a fresh segment; None where there is no room. For the writing thread."""
        old = self.current
        segment, self._spare = self._spare, None
        if segment is None and old is not None:
            # The thread was too slow. Once there was no room, it goes on looking, not we.
            segment = self._make()
        self._after = self.written
        if segment is not None:
            segment.begin(self.id, self.prefix, self._after)
        if old is not None:
            self._full.append(old)
        self.current = segment
        if segment is not old:
            # Not with each call that finds no room: the thread looks for it once a second.
            self._wake.set()
        return segment

    def miss(self, missed: Missed) -> None:
        """Count a call that could not be recorded. For the writing thread."""
        if self._tally is not None:
            self._tally.add(missed)
        else:
            self._untallied[missed] = self._untallied.get(missed, 0) + 1

    def missed(self) -> dict[Missed, int]:
        """How many calls of whom could not be recorded."""
        counts = dict(self._untallied)
        if self._tally is not None:
            for each, calls in self._tally.counts().items():
                counts[each] = counts.get(each, 0) + calls
        return counts

    def forget(self, position: int) -> None:
        """Delete the full segments whose events have all been copied; any one thread."""
        while self._full and self._full[0].first + self._full[0].count <= position:
            segment = self._full.popleft()
            segment.close()
            segment.path.unlink(missing_ok=True)

    def upkeep(self) -> None:
        """Take room ahead, and make what was written survive a power cut."""
        self.offset_ns = _unix_offset_ns()
        if self._tally is None:
            self._make_tally()
        if self._spare is None:
            self._spare = self._make()
        self._sync()

    def _sync(self) -> None:
        for segment in self.segments:
            # One that was copied meanwhile is closed; it needs no sync any more.
            with contextlib.suppress(ValueError, OSError):
                segment.sync()
        if self._tally is not None:
            self._tally.sync()

    def stop(self) -> None:
        """End the thread, and sync once more. Nothing is written from now on."""
        self._stopping = True
        self._wake.set()
        if self._keeper is not None:
            self._keeper.join()
            self._keeper = None
        self._sync()

    def close(self, *, is_copied: bool) -> None:
        """Let go of the files; those of a spool that is copied are deleted."""
        self._after = self.written
        if self.current is not None:
            self._full.append(self.current)
            self.current = None
        for segment in (*self._full, *([self._spare] if self._spare else ())):
            segment.close()
            if is_copied or segment is self._spare:
                segment.path.unlink(missing_ok=True)
        self._full.clear()
        self._spare = None
        if self._tally is not None:
            if is_copied:
                self._tally.path.unlink(missing_ok=True)
            self._tally.close()
            self._tally = None

    def _keep(self) -> None:
        while not self._stopping:
            self._wake.wait(SYNC_S)
            self._wake.clear()
            try:
                self.upkeep()
            except OSError as error:
                _log.warning("the usage spool in %s cannot be synced: %s", self.folder, error)

    def _make(self) -> Segment | None:
        """A segment, if the disk and the bound have room for it."""
        if self._tally is None:
            # Without the lock that it holds, others would take the segment for a dead process's.
            return None
        try:
            if folder_bytes(self.folder) + self._size > self._bound:
                self._no_room("the spools hold as much as 'spool_bytes' allows")
                return None
            path = self.folder / f"{self.id}.{next(self._names):06d}{SUFFIX}"
            segment = Segment(path, self._size)
        except OSError as error:
            self._no_room(error.strerror or str(error))
            return None
        if self._why:
            _log.warning("there is room for usage events again")
            self._why = ""
        return segment

    def _make_tally(self) -> None:
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            tally = Tally(self.folder / f"{self.id}{tallies.SUFFIX}")
        except OSError as error:
            self._no_room(error.strerror or str(error))
            return
        self._tally = tally

    def _no_room(self, why: str) -> None:
        if why != self._why:
            _log.error(
                "there is no room for more usage events in %s (%s): "
                "when it is used up, calls are answered unrecorded, and counted as such",
                self.folder,
                why,
            )
            self._why = why


def _unix_offset_ns() -> int:
    return time.time_ns() - time.monotonic_ns()


def folder_bytes(folder: Path) -> int:
    """What the files of all spools take."""
    size = 0
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                size += entry.stat().st_size
    return size
