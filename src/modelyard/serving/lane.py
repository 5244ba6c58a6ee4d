"""A lane: one thread that runs batches while the event loop goes on."""

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final

_SWITCH_S: Final = 0.0005
"""How soon the loop gets the interpreter back from a lane that computes in Python. At Python's own
5 ms two such lanes made a health answer take 30 to 45 ms at the median, so it takes 1; what the
lanes got done was the same."""


class ThreadLane:
    """Runs one piece of work at a time and reports back on the loop.

    It makes no queue of its own: whoever feeds it waits until it is idle, so that work that has
    not begun can still be joined, cancelled or refused.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        sys.setswitchinterval(min(sys.getswitchinterval(), _SWITCH_S))
        self._loop = loop
        self._work: SimpleQueue[Callable[[], Callable[[], None]] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def start(self, work: Callable[[], Callable[[], None]]) -> None:
        """Run `work` in the thread, and what it returns on the loop. `work` must not raise."""
        self._work.put(work)

    def close(self) -> None:
        """Let the thread end after the work it holds."""
        self._work.put(None)

    def _serve(self) -> None:
        while True:
            work = self._work.get()
            if work is None:
                return
            finish = work()
            try:
                self._loop.call_soon_threadsafe(finish)
            except RuntimeError:
                # The loop was closed under us: nobody is left to tell.
                return
            # They hold a batch, which must not stay in memory until the next one comes.
            del work, finish


class LaneClock:
    """Times one piece of work in a lane, from its making to `stop`, in the lane's thread.

    `cpu_ns` is what the thread computed, `idle_ns` for how long neither it nor any other thread of
    this process did: it waited for a device, a file, another process, or for a core.
    """

    __slots__ = ("_process_ns", "cpu_ns", "ended_ns", "idle_ns", "started_ns", "took_ns")

    def __init__(self) -> None:
        self.took_ns = self.ended_ns = self.idle_ns = 0
        self._process_ns = time.process_time_ns()
        self.cpu_ns = time.thread_time_ns()
        self.started_ns = time.monotonic_ns()

    def stop(self) -> None:
        """The work is done."""
        self.ended_ns = time.monotonic_ns()
        self.took_ns = self.ended_ns - self.started_ns
        self.cpu_ns = time.thread_time_ns() - self.cpu_ns
        process_ns = time.process_time_ns() - self._process_ns
        self.idle_ns = max(0, self.took_ns - max(self.cpu_ns, process_ns))
