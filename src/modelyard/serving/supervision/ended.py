"""How many connections a worker has ended: numbers in memory that it shares with the supervisor.

The supervisor knows how many it gave to each worker, so it knows how many each has open, without a
message for every connection that closes.
"""

import mmap
import os
import tempfile
from pathlib import Path

from modelyard.serving.supervision.handover import Door


class EndedCount:
    """A whole number for each door, that one process raises and another reads."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, mmap.PAGESIZE)
        # One aligned store: a reader never sees half a number.
        self._cells = memoryview(self._memory).cast("Q")

    @classmethod
    def create(cls) -> "EndedCount":
        """Zeros, to be passed on by its descriptor."""
        if hasattr(os, "memfd_create"):
            descriptor = os.memfd_create("modelyard-ended")
        else:
            descriptor, path = tempfile.mkstemp(prefix="modelyard-")
            Path(path).unlink()
        os.ftruncate(descriptor, mmap.PAGESIZE)
        return cls(descriptor)

    def add(self, door: Door) -> None:
        """One more."""
        self._cells[door] += 1

    def read(self, door: Door) -> int:
        """How many there are."""
        return self._cells[door]

    def close(self) -> None:
        """Let go of the memory."""
        self._cells.release()
        self._memory.close()
        os.close(self.descriptor)
