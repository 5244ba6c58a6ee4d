"""Tensors in shared memory: one process writes them in order, the other copies them out in order.

A ring has one writer and one reader. Its first bytes hold how far the reader has come, written by
the reader alone; all else is told in the messages, so a reader believes nothing that it finds in
the memory but the tensors' bytes. Both sides check every number of the other before they use it.
"""

import fcntl
import mmap
import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

RING_BYTES: Final = 128 * 1024 * 1024
"""Address space, not memory: a page costs nothing until a tensor is put there, and the pages of an
idle ring are given back."""

_HEAD: Final = 64
_ALIGNED: Final = 64
_SEALS: Final = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

Octets = NDArray[np.uint8]


class BrokenRing(Exception):
    """The other side says what cannot be: the connection is of no use any more."""


def make_memory(size: int = RING_BYTES) -> int:
    """A file descriptor of new memory that nobody can shrink under its readers."""
    fd = os.memfd_create("modelyard-tensors", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


class _Memory:
    def __init__(self, fd: int) -> None:
        if fcntl.fcntl(fd, fcntl.F_GET_SEALS) & _SEALS != _SEALS:
            # Memory that its owner may cut off kills whoever reads beyond the cut.
            raise BrokenRing("the shared memory is not sealed")
        self._map = mmap.mmap(fd, os.fstat(fd).st_size)
        if len(self._map) <= _HEAD:
            raise BrokenRing("the shared memory is too small")
        whole = memoryview(self._map)
        self._counter = whole[:8].cast("Q")
        self.octets: Octets = np.frombuffer(whole, np.uint8, offset=_HEAD)
        self.size = len(self.octets)

    @property
    def read(self) -> int:
        """How far the reader has come."""
        return self._counter[0]

    @read.setter
    def read(self, mark: int) -> None:
        self._counter[0] = mark

    def give_back(self) -> None:
        """Let the system have the pages again; only where nobody needs their content."""
        self._map.madvise(mmap.MADV_REMOVE, mmap.PAGESIZE, len(self._map) - mmap.PAGESIZE)


class RingWriter:
    """The writing end. Takes a duplicate of what `fd` stands for; the caller closes `fd`."""

    def __init__(self, fd: int) -> None:
        self._memory = _Memory(fd)
        self._written = 0
        self._position = 0
        self._highest = 0

    def put(self, octets: Octets) -> tuple[int, int] | None:
        """Where the octets lie now and the mark behind them; None where there is no room."""
        memory = self._memory
        waiting = self._waiting()
        if not waiting:
            # The beginning again and again: few pages, and those in the processor's cache.
            self._position = 0
        length = len(octets)
        taken = -(-length // _ALIGNED) * _ALIGNED
        start, skipped = self._position, 0
        if start + taken > memory.size:
            start, skipped = 0, memory.size - start
        if waiting + skipped + taken > memory.size:
            return None
        memory.octets[start : start + length] = octets
        self._position = start + taken
        self._highest = max(self._highest, self._position)
        self._written += skipped + taken
        return start, self._written

    def _waiting(self) -> int:
        waiting = self._written - self._memory.read
        if not 0 <= waiting <= self._memory.size:
            raise BrokenRing("the reader has read what was never written")
        return waiting

    def trim(self, above: int) -> None:
        """Give pages back where all was read and more than `above` bytes were in use."""
        if self._highest > above and not self._waiting():
            self._memory.give_back()
            self._highest = 0


class RingReader:
    """The reading end. Takes a duplicate of what `fd` stands for; the caller closes `fd`."""

    def __init__(self, fd: int) -> None:
        self._memory = _Memory(fd)
        self._mark = 0

    def take(self, start: int, length: int, mark: int) -> bytes:
        """A copy of the octets there, whose place is the writer's again."""
        memory = self._memory
        if not (0 <= start <= memory.size and 0 <= length <= memory.size - start):
            raise BrokenRing("a tensor lies outside of the shared memory")
        if not self._mark < mark <= self._mark + memory.size:
            raise BrokenRing("a tensor was read before")
        octets = memory.octets[start : start + length].tobytes()
        self._mark = memory.read = mark
        return octets
