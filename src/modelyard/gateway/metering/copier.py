"""The copier: brings what spools hold into the database, each event once, however often it tries.

How far a spool was copied is written in the transaction that writes its events; whoever copies
begins there. So a copy that died, or of which nobody knows whether it was committed, is tried again
without harm, and of two who copy the same spool one finds that there is nothing left to do.
"""

import dataclasses
import datetime
import logging
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Protocol

from modelyard.core.errors import ModelyardError
from modelyard.gateway.metering.batch import Batch
from modelyard.gateway.metering.reading import (
    DAMAGED,
    Found,
    Orphan,
    hold_orphans,
    own_batches,
    read_segment,
)
from modelyard.gateway.metering.spool import Spool
from modelyard.gateway.metering.tally import Missed

_log = logging.getLogger(__name__)

COPY_S: Final = 1.0
_ORPHANS_EVERY: Final = 5
_PURGE_EVERY: Final = 600
"""Rounds of copying."""
_LONGEST_S: Final = 30.0


class UsageBook(Protocol):
    """Where usage goes: the registry's tables. May raise anything when the database is away."""

    def position(self, spool: str) -> int:
        """How many places of a spool were copied."""
        ...

    def copy(self, batch: Batch) -> int:
        """Take a batch, if it begins where the spool's copies end; returns where they end now."""
        ...

    def miss(self, spool: str, counts: Mapping[Missed, int]) -> None:
        """How many calls of whom a spool could not record, in all."""
        ...

    def end(self, spool: str) -> None:
        """All of a spool was copied, and no more will come."""
        ...

    def purge(self, before: datetime.datetime) -> int:
        """Delete single events that are older; returns how many."""
        ...


class Copier:
    """Copies this process's spool about every second, and now and then those of dead processes."""

    def __init__(
        self,
        folder: Path,
        book: UsageBook,
        spool: Spool | None = None,
        *,
        keep: datetime.timedelta | None = None,
    ) -> None:
        self._keep = keep
        self._folder = folder
        self._book = book
        self._spool = spool
        self.position = 0
        self.trouble = ""
        self._missed: dict[Missed, int] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_finished = False

    def start(self) -> None:
        """Begin to copy, in a thread."""
        self._thread = threading.Thread(target=self._run, name="modelyard usage", daemon=True)
        self._thread.start()

    def stop(self, grace_s: float) -> bool:
        """Copy what is left of a spool that nobody writes any more, and let go of it.

        False where that could not be done, or takes longer than `grace_s`: it stays for others.
        """
        self._stopping.set()
        if self._thread is None:
            self._finish()
        else:
            self._thread.join(grace_s)
        return self._is_finished

    def _finish(self) -> None:
        if self._spool is None:
            return
        try:
            self.copy_own()
            if self.position:
                self._book.end(self._spool.id)
            self._is_finished = True
        except Exception as error:  # noqa: BLE001 - whatever it is, the events are still there
            self._note(error)
        self._spool.close(is_copied=self._is_finished)

    def copy_own(self) -> int:
        """Copy what this process has written; returns how many events."""
        if self._spool is None:
            return 0
        copied = 0
        for batch in own_batches(self._spool, self.position):
            batch = bridged(batch, self.position)
            self.position = self._book.copy(batch)
            if self.position != batch.after:
                # The answer to an earlier copy was lost, or somebody put an older database back.
                return copied + self.copy_own()
            copied += len(batch.events)
        self._spool.forget(self.position)
        missed = self._spool.missed()
        if missed != self._missed:
            self._book.miss(self._spool.id, missed)
            self._missed = missed
        return copied

    def copy_orphans(self) -> int:
        """Copy and delete the spools of dead processes; returns how many events."""
        copied, failed = 0, []
        with hold_orphans(self._folder) as orphans:
            for orphan in orphans:
                try:
                    copied += self._copy_orphan(orphan)
                except Exception as error:  # noqa: BLE001 - the others must not wait for this one
                    failed.append(error)
        if failed:
            raise failed[0]
        return copied

    def _copy_orphan(self, orphan: Orphan) -> int:
        position, copied = self._book.position(orphan.id), 0
        for each in _read(orphan.files):
            while position < each.head.first + each.places:
                batch = bridged(each.batch(position), position)
                after = self._book.copy(batch)
                copied += len(batch.events) if after == batch.after else 0
                position = after
        missed = orphan.missed()
        if missed:
            self._book.miss(orphan.id, missed)
        self._book.end(orphan.id)
        orphan.delete()
        return copied

    def _run(self) -> None:
        wait_s, rounds = COPY_S, 0
        while not self._stopping.wait(wait_s):
            try:
                self.copy_own()
                if rounds % _ORPHANS_EVERY == 0:
                    self.copy_orphans()
                if rounds % _PURGE_EVERY == 0:
                    self._purge()
            except Exception as error:  # noqa: BLE001 - whatever it is, the events are still there
                wait_s = min(wait_s * 2, _LONGEST_S)
                self._note(error)
            else:
                wait_s, rounds = COPY_S, rounds + 1
                if self.trouble:
                    _log.warning("usage is being copied to the database again")
                    self.trouble = ""
        self._finish()

    def _purge(self) -> None:
        if self._keep is not None:
            self._book.purge(datetime.datetime.now(datetime.UTC) - self._keep)

    def _note(self, error: Exception) -> None:
        if not self.trouble:
            _log.warning(
                "usage cannot be copied to the database, and stays in the spool meanwhile: %s",
                error,
                exc_info=not isinstance(error, ModelyardError),
            )
        self.trouble = str(error) or type(error).__name__


def bridged(batch: Batch, position: int) -> Batch:
    """A batch that begins at `position`: what lies between, a segment that is gone, is damaged."""
    gap = batch.first - position
    if not gap:
        return batch
    return dataclasses.replace(
        batch, first=position, places=batch.places + gap, damaged=batch.damaged + gap
    )


def _read(files: Iterable[Path]) -> list[Found]:
    """The segments in their order. One that nobody can read is put aside, for somebody to look."""
    found = []
    for path in files:
        try:
            segment = read_segment(path)
        except ValueError as error:
            aside = path.with_suffix(DAMAGED)
            _log.error("%s: what it holds cannot be copied; it is kept as %s", error, aside)
            path.rename(aside)
        else:
            if segment is not None:
                found.append(segment)
    return sorted(found, key=lambda each: each.head.first)
