"""What the workers of a home count together: memory that outlives each of them.

One mapped file has a row for each subject, and each worker has a column in a file of its own. Rows,
and what a column has *taken*, change only under a lock that the kernel gives back when its holder
dies; what a column has *settled* is written by its worker alone, without a lock. Every change that
counts is one aligned store of eight bytes, so whenever a process is killed, the numbers are right:

    settled <= taken        of each column; the rest is set aside for calls, or at hand for more
    held                    of each column: what is at hand for more calls, at most
    granted - sum(taken)    is what any worker may still take

A worker lives as long as its column's lock is held. Of a dead one, what is taken and not settled is
given back by one store, `taken = settled`, which may be made twice.
"""

import fcntl
import hashlib
import mmap
import os
import secrets
import time
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Final

import numpy as np

from modelyard.core.errors import Conflict, Exhausted, Unavailable

_MAGIC: Final = 0x4D59_4C49_4D49_5431
_CAPACITY: Final = 16_384
"""Subjects that a till has room for."""
_NEAR: Final = 64
"""In how many rows, from where its digest says, a subject may be."""
_MOST_COLUMNS: Final = 1024
_HEADER: Final = 512
"""Cells before the first row: a page."""
_WIDTH: Final = 16
_COLUMN_WIDTH: Final = 4
_PATIENCE_S: Final = 0.25
_BURY_NS: Final = 20_000_000
_IDLE_NS: Final = 600_000_000_000

TAKEN: Final = 0
SETTLED: Final = 1
HELD: Final = 2


class Kind(IntEnum):
    """What a row counts."""

    QUOTA = 1
    RATE = 2
    CONCURRENCY = 3


class Head(IntEnum):
    """Cells of the header."""

    MAGIC = 0
    MACHINE = 1
    NODE = 3
    GENERATION = 5
    COLUMNS = 6
    """How many there have ever been at once."""
    NODES = 7
    CLAIM = 8
    """The number of the column whose worker speaks to the registry, and 1; 0 for none."""
    DOWN_UNTIL = 9
    """Until which monotonic nanosecond nobody asks the registry, because it did not answer."""
    NEXT_ROUND = 10
    """When somebody is to look at what the registry says of this home's leases."""
    NEXT_REPORT = 11
    NEXT_RENEWAL = 12
    NEXT_BEAT = 13


class Cell(IntEnum):
    """Cells of a row."""

    GENERATION = 0
    """A number that no other use of this row has; 0 where it is free."""
    DIGEST = 1
    KIND = 3
    GRANTED = 4
    BASE = 5
    """Spent before this row was made; below 0 while only the registry knows."""
    LEVEL = 6
    """A rate's tokens, as a float."""
    STAMP = 7
    """When that was so, or the row was last looked at."""
    TIGHT = 8
    """Whether workers are to hold nothing that they do not need at once."""
    REFUSED_AT = 9
    """When the registry last said that nothing is left."""
    WANTED = 10
    """The number of a node's want for what others hold of the quota; 0 for none."""
    ANSWERED = 11
    """The number of the last want that everything was given back for."""
    SIZE = 12
    """How much was asked for last."""
    ASKED_AT = 13
    OWED_UNTIL = 14
    """Until when to wait for what other nodes give back."""


class Column:
    """What one worker has taken and settled, of every subject."""

    def __init__(self, path: Path, index: int, size_bytes: int) -> None:
        self.index = index
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size_bytes = size_bytes
        self._memory: mmap.mmap | None = None
        self.cells: memoryview[int]
        self.is_mine = False

    def map(self) -> None:
        """Make its numbers readable. A full disk is found out here, and never by a signal later."""
        try:
            os.posix_fallocate(self._descriptor, 0, self._size_bytes)
        except OSError as error:
            raise _no_room(error) from error
        self._memory = mmap.mmap(self._descriptor, self._size_bytes)
        self.cells = memoryview(self._memory).cast("q")

    def try_lock(self) -> bool:
        """Whether nobody holds it; then it is held from now on."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        """Hold it no more."""
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def give_back(self) -> None:
        """What was taken and not settled is there for others; of a worker that is dead."""
        assert self._memory is not None  # noqa: S101 - mapped before it is anybody's
        numbers = np.frombuffer(self._memory, np.int64).reshape(-1, _COLUMN_WIDTH)
        numbers[:, TAKEN] = numbers[:, SETTLED]
        numbers[:, HELD] = 0

    @property
    def is_open(self) -> bool:
        """Whether something is taken and not settled."""
        assert self._memory is not None  # noqa: S101 - mapped before it is anybody's
        numbers = np.frombuffer(self._memory, np.int64).reshape(-1, _COLUMN_WIDTH)
        return bool((numbers[:, TAKEN] != numbers[:, SETTLED]).any())

    def close(self) -> None:
        """Let go of the memory, and of the lock."""
        if self._memory is not None:
            self.cells.release()
            self._memory.close()
            self._memory = None
        os.close(self._descriptor)


class Till:
    """The shared counts of a home, seen by one worker of it. Used on one thread only."""

    def __init__(self, folder: Path, *, capacity: int = _CAPACITY, machine: str = "") -> None:
        self._folder = folder
        self._capacity = capacity
        self._machine = machine or _machine()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = os.open(folder / "till", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._columns: list[Column] = []
        self._buried_ns = 0
        self.columns: list[memoryview[int]] = []
        """The cells of every column, for sums."""
        try:
            with self:
                self._open()
                self._join()
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        size = 8 * (_HEADER + self._capacity * _WIDTH)
        try:
            os.posix_fallocate(self._descriptor, 0, size)
        except OSError as error:
            raise _no_room(error) from error
        self._memory = mmap.mmap(self._descriptor, size)
        self.cells: memoryview[int] = memoryview(self._memory).cast("q")
        self.reals: memoryview[float] = memoryview(self._memory).cast("d")
        digest = _halves(hashlib.blake2b(self._machine.encode(), digest_size=16).digest())
        known = (self.cells[Head.MACHINE], self.cells[Head.MACHINE + 1])
        if self.cells[Head.MAGIC] == _MAGIC and known == digest:
            return
        # Another boot: what a power cut left of these numbers is not to be trusted. A new node
        # begins, and the registry counts what the old one held as spent.
        if self.cells[Head.MAGIC] and self._is_lived_in():
            raise Conflict(
                "home_on_two_machines",
                f"'{self._folder}' is in use by a server on another machine; give each machine a "
                "home of its own, and one PostgreSQL registry for all",
                field="home",
            )
        self.cells[Head.MAGIC] = 0
        for path in self._folder.glob("column-*"):
            path.unlink()
        self._memory[8:size] = bytes(size - 8)
        self.cells[Head.MACHINE], self.cells[Head.MACHINE + 1] = digest
        self.cells[Head.NODE], self.cells[Head.NODE + 1] = _halves(secrets.token_bytes(16))
        self.cells[Head.NODES] = 1
        self.cells[Head.MAGIC] = _MAGIC

    def _is_lived_in(self) -> bool:
        for path in self._folder.glob("column-*"):
            column = Column(path, 0, 0)
            is_free = column.try_lock()
            column.close()
            if not is_free:
                return True
        return False

    def _join(self) -> None:
        for index in range(_MOST_COLUMNS):
            column = Column(
                self._folder / f"column-{index}", index, 8 * _COLUMN_WIDTH * self._capacity
            )
            if column.try_lock():
                column.map()
                column.give_back()
                column.is_mine = True
                self.own = column
                self.cells[Head.COLUMNS] = max(self.cells[Head.COLUMNS], index + 1)
                # Its last holder may have died while it spoke to the registry.
                self.unclaim()
                self._columns.append(column)
                self._order()
                return
            column.close()
        raise Exhausted(
            "too_many_workers", f"'{self._folder}' has no room for another worker; start fewer"
        )

    def _order(self) -> None:
        """Map the columns of those who came meanwhile."""
        there = {column.index for column in self._columns}
        for index in range(self.cells[Head.COLUMNS]):
            if index not in there:
                column = Column(
                    self._folder / f"column-{index}", index, 8 * _COLUMN_WIDTH * self._capacity
                )
                column.map()
                self._columns.append(column)
        self.columns = [column.cells for column in self._columns]

    @property
    def node(self) -> str:
        """The name of this home among those that share a registry."""
        return bytes(self.cells[Head.NODE : Head.NODE + 2].cast("B")).hex()

    @property
    def index(self) -> int:
        """The number of this worker's column."""
        return self.own.index

    def __enter__(self) -> "Till":
        """Take the lock; raises `Unavailable` where somebody holds it and does not go on."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._wait()
        if self.columns and len(self.columns) != self.cells[Head.COLUMNS]:
            self._order()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def _wait(self) -> None:
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            # Its holder needs microseconds, and a core.
            time.sleep(0.000_05)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return
        raise Unavailable(
            "limits_unavailable",
            "the counts of limits are held by another worker; try again",
            retry_after_s=1.0,
        )

    def find(self, words: str, kind: int) -> int:
        """The row of a subject, made where there is none. Under the lock; raises `Exhausted`."""
        low, high = _halves(hashlib.blake2b(words.encode(), digest_size=16).digest())
        free = -1
        for row in self._rows(low):
            if not self.cells[row]:
                free = row if free < 0 else free
            elif self.cells[row + Cell.DIGEST] == low and self.cells[row + Cell.DIGEST + 1] == high:
                return row
        if free < 0:
            free = self._clear(low)
        self._make(free, low, high, kind)
        return free

    def look_up(self, words: str) -> int | None:
        """The row of a subject, where there is one. Under the lock."""
        low, high = _halves(hashlib.blake2b(words.encode(), digest_size=16).digest())
        for row in self._rows(low):
            if (
                self.cells[row]
                and self.cells[row + Cell.DIGEST] == low
                and self.cells[row + Cell.DIGEST + 1] == high
            ):
                return row
        return None

    def column_cell(self, row: int) -> int:
        """Where a row's cells begin in every column."""
        return (row - _HEADER) // _WIDTH * _COLUMN_WIDTH

    def taken(self, row: int) -> int:
        """What all workers, living and dead, have taken of a row."""
        at = (row - _HEADER) // _WIDTH * _COLUMN_WIDTH
        total = 0
        for cells in self.columns:
            total += cells[at]
        return total

    def settled(self, row: int) -> int:
        """What all workers, living and dead, have settled of a row."""
        at = self.column_cell(row) + SETTLED
        return sum(cells[at] for cells in self.columns)

    def is_at_hand(self, row: int) -> bool:
        """Whether any worker, this one too, may have some of a row at hand. Under the lock."""
        return self.own.cells[self.column_cell(row) + HELD] > 0 or self.is_held(row)

    def is_idle(self, row: int) -> bool:
        """Whether nobody holds anything of a row."""
        at = self.column_cell(row)
        return all(
            cells[at + TAKEN] == cells[at + SETTLED] and not cells[at + HELD]
            for cells in self.columns
        )

    def free(self, row: int) -> None:
        """Let the row be another subject's. Under the lock, of one that is idle and told."""
        self.cells[row] = 0

    def is_held(self, row: int) -> bool:
        """Whether another worker may have some of a row at hand. Under the lock.

        Those that have died are found out, and what they held is given back.
        """
        at = self.column_cell(row) + HELD
        return any(
            column.cells[at] > 0 and not self._bury(column)
            for column in self._columns
            if not column.is_mine
        )

    def bury(self, now_ns: int) -> bool:
        """Give back what dead workers held, but not too often; whether any is dead.

        Under the lock.
        """
        if 0 <= now_ns - self._buried_ns < _BURY_NS:
            return False
        self._buried_ns = now_ns
        dead = [each for each in self._columns if not each.is_mine and self._bury(each)]
        return bool(dead)

    def depart(self) -> bool:
        """Be no worker of this home any more; whether none is left now, and this one may speak.

        Under the lock. While calls have something set aside, the column stays this worker's until
        its process ends.
        """
        if self.own.is_open:
            return False
        self.own.unlock()
        is_last = all(column.is_mine or self._bury(column) for column in self._columns)
        if is_last:
            self.own.try_lock()
        return is_last

    def claim(self) -> bool:
        """Be the one worker that speaks to the registry; False while another is. Under the lock."""
        holder = self.cells[Head.CLAIM] - 1
        if holder >= 0 and holder != self.own.index:
            other = next((each for each in self._columns if each.index == holder), None)
            if other is not None and not self._bury(other):
                return False
        elif holder == self.own.index:
            return False
        self.cells[Head.CLAIM] = self.own.index + 1
        return True

    def unclaim(self) -> None:
        """Let another speak."""
        if self.cells[Head.CLAIM] == self.own.index + 1:
            self.cells[Head.CLAIM] = 0

    def close(self) -> None:
        """Leave: what this worker holds is given back, here or by whoever comes next."""
        for column in self._columns:
            column.close()
        self._columns.clear()
        self.columns.clear()
        if hasattr(self, "_memory"):
            self.cells.release()
            self.reals.release()
            self._memory.close()
        os.close(self._descriptor)

    def _bury(self, column: Column) -> bool:
        """Whether the column's worker is dead; what it held is given back."""
        if not column.try_lock():
            return False
        column.give_back()
        column.unlock()
        return True

    def _rows(self, low: int) -> Sequence[int]:
        start = low % self._capacity
        return [
            _HEADER + (start + step) % self._capacity * _WIDTH
            for step in range(min(_NEAR, self._capacity))
        ]

    def _make(self, row: int, low: int, high: int, kind: int) -> None:
        at = self.column_cell(row)
        for cells in self.columns:
            for offset in range(_COLUMN_WIDTH):
                cells[at + offset] = 0
        for offset in range(1, _WIDTH):
            self.cells[row + offset] = 0
        self.cells[row + Cell.DIGEST] = low
        self.cells[row + Cell.DIGEST + 1] = high
        self.cells[row + Cell.KIND] = kind
        self.cells[Head.GENERATION] += 1
        # Last: a row that is half made is still free.
        self.cells[row] = self.cells[Head.GENERATION]

    def _clear(self, low: int) -> int:
        """A row among those near that nobody has used for long."""
        before = time.monotonic_ns() - _IDLE_NS
        for row in self._rows(low):
            if self.cells[row + Cell.STAMP] < before and self.is_forgettable(row):
                return row
        raise Exhausted(
            "too_many_subjects",
            "the server counts limits for more keys, tenants and models than it has room for; "
            "count them together: `--per` fewer",
            retry_after_s=1.0,
        )

    def is_forgettable(self, row: int) -> bool:
        """Whether nothing would be lost with it: nobody holds any, and the registry knows all."""
        return self.is_idle(row) and (
            self.cells[row + Cell.KIND] != Kind.QUOTA
            or self.cells[row + Cell.BASE] < 0
            or self.cells[row + Cell.GRANTED] == self.cells[row + Cell.BASE] + self.settled(row)
        )


def _halves(digest: bytes) -> tuple[int, int]:
    return (
        int.from_bytes(digest[:8], "little", signed=True),
        int.from_bytes(digest[8:], "little", signed=True),
    )


def _machine() -> str:
    """What is another after every boot."""
    path = Path("/proc/sys/kernel/random/boot_id")
    return path.read_text("ascii").strip() if path.exists() else ""


def _no_room(error: OSError) -> Exhausted:
    return Exhausted(
        "disk_full", f"the home has no room for the counts of limits ({error.strerror}); free some"
    )
