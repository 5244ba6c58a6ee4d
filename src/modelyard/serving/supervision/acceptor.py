"""Connections taken from the kernel and shared out: each to the worker with the fewest."""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from modelyard.serving.supervision.handover import MOST, Door
from modelyard.serving.supervision.worker import Worker

_log = logging.getLogger(__name__)

_BACKLOG: Final = 2048
_MOST_WAITING: Final = 1024
"""Past so many without a worker, further ones wait in the kernel."""
_RETRY_S: Final = 0.002
_NO_DESCRIPTORS_S: Final = 0.5


class Acceptor:
    """Accepts at one door. `choose` names the workers that may be given connections."""

    def __init__(
        self, door: Door, bound: socket.socket, choose: Callable[[], Sequence[Worker]]
    ) -> None:
        self._door = door
        self._listener = bound
        self._choose = choose
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[socket.socket] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._rest: asyncio.TimerHandle | None = None
        self._is_reading = False
        self._is_closed = False

    def start(self) -> None:
        """Listen, and accept."""
        self._listener.setblocking(False)
        # Accepted connections inherit it: an answer in two pieces must not wait for the caller.
        self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._listener.listen(_BACKLOG)
        self._read(True)

    def share(self, connections: Sequence[socket.socket] = ()) -> None:
        """Give these, and those that wait, to workers; they wait while nobody takes them."""
        self._waiting.extend(connections)
        while self._waiting:
            workers = self._choose()
            if not workers:
                break
            if not self._give_some(workers):
                self._retry_after(_RETRY_S)
                break
        has_room = len(self._waiting) < _MOST_WAITING
        self._read(has_room and self._rest is None and not self._is_closed)

    def close(self) -> None:
        """Take what the kernel has accepted already, and listen no more."""
        if self._is_closed:
            return
        while accepted := self._accept():
            self.share(accepted)
        self._is_closed = True
        self._read(False)
        self._listener.close()

    def drop(self) -> None:
        """Close what still waits: there is nobody left to give it to."""
        for timer in (self._retry, self._rest):
            if timer is not None:
                timer.cancel()
        for connection in self._waiting:
            connection.close()
        self._waiting.clear()

    def _accept(self) -> list[socket.socket]:
        accepted: list[socket.socket] = []
        while len(accepted) < MOST:
            try:
                accepted.append(self._listener.accept()[0])
            except BlockingIOError:
                break
            except ConnectionError:
                # This one hung up while it waited; the next has not.
                continue
            except OSError as error:
                _log.error("no connection can be accepted: %s", error.strerror)
                if self._rest is None:
                    self._rest = self._loop.call_later(_NO_DESCRIPTORS_S, self._go_on)
                break
        return accepted

    def _go_on(self) -> None:
        self._rest = None
        self.share()

    def _give_some(self, workers: Sequence[Worker]) -> bool:
        """Give some of those that wait; whether any worker took any."""
        door = self._door
        shares: dict[Worker, list[socket.socket]] = {each: [] for each in workers}

        def burden(worker: Worker) -> tuple[int, int]:
            # Of two with as many, the one that has waited longer: they take turns.
            return worker.open_at(door) + len(shares[worker]), worker.last_given

        for _ in range(min(MOST, len(self._waiting))):
            shares[min(workers, key=burden)].append(self._waiting.popleft())
        is_given = False
        for worker, share in shares.items():
            if share and not worker.give(door, share):
                self._waiting.extendleft(reversed(share))
            else:
                is_given = is_given or bool(share)
        return is_given

    def _retry_after(self, seconds: float) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = self._loop.call_later(seconds, self.share)

    def _read(self, wanted: bool) -> None:
        if wanted and not self._is_reading:
            self._loop.add_reader(self._listener, lambda: self.share(self._accept()))
        elif self._is_reading and not wanted:
            self._loop.remove_reader(self._listener)
        self._is_reading = wanted
