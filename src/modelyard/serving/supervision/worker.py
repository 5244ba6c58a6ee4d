"""A worker process, as its supervisor sees it: its sockets, its state, its end."""

import asyncio
import contextlib
import itertools
import logging
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from functools import partial
from typing import Final, NamedTuple

from modelyard.core.errors import Kind, ModelyardError, make_error
from modelyard.serving.supervision.channel import Channel, Payload
from modelyard.serving.supervision.ended import EndedCount
from modelyard.serving.supervision.handover import Door, give, handover_pair, take

_log = logging.getLogger(__name__)

WorkerId = int
Handler = Callable[[WorkerId, Payload], Awaitable[Payload]]
"""Answers one kind of question from workers."""

_IDS: Final = itertools.count(1)
_TURNS: Final = itertools.count(1)
_MARGIN_S: Final = 2.0
"""How long past its grace a worker may take for its own end before it is killed."""


class Descriptors(NamedTuple):
    """What a worker process is started with: its channel, its handover, its count of the ended."""

    channel: int
    handover: int
    ended: int


Command = Callable[[Descriptors], Sequence[str]]


class State(StrEnum):
    """Where a worker is in its life."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    ENDED = "ended"


class Worker:
    """One worker process. Used on the event loop's thread only."""

    def __init__(self, slot: int, family: int) -> None:
        self.id: WorkerId = next(_IDS)
        self.slot = slot
        self.state = State.STARTING
        self.started_at = time.monotonic()
        self.listening_since: float | None = None
        self.failure: ModelyardError | None = None
        self.on_changed: Callable[[], None] = lambda: None
        self.on_returned: Callable[[Door, Sequence[socket.socket]], None] = lambda *_: None
        self._family = family
        self.last_given = 0
        self._given: Counter[Door] = Counter()
        self._handover, self._far_handover = handover_pair()
        self._ended_count = EndedCount.create()
        self._channel: Channel
        self._process: asyncio.subprocess.Process
        self._exit: asyncio.Future[int]
        self._settled = asyncio.Event()

    async def start(self, command: Command, handlers: Mapping[str, Handler]) -> None:
        """Start the process; it has its own hello to say. Raises `OSError`, and keeps nothing."""
        try:
            await self._start(command, handlers)
        except OSError:
            self._ended_count.close()
            self._handover.close()
            self._far_handover.close()
            raise

    async def _start(self, command: Command, handlers: Mapping[str, Handler]) -> None:
        near, far = socket.socketpair()
        own = {
            "listening": self._take_listening,
            "ready": self._take_ready,
            "leaving": self._take_leaving,
            "failed": self._take_failure,
        }
        every = {**handlers, **own}
        numbers = Descriptors(
            far.fileno(), self._far_handover.fileno(), self._ended_count.descriptor
        )
        try:
            with far:
                self._process = await asyncio.create_subprocess_exec(
                    *command(numbers), stdin=asyncio.subprocess.DEVNULL, pass_fds=numbers
                )
        except OSError:
            near.close()
            raise
        self._channel = await Channel.over(
            near, {kind: partial(handler, self.id) for kind, handler in every.items()}
        )
        self._exit = asyncio.ensure_future(self._process.wait())
        self._exit.add_done_callback(self._take_end)
        asyncio.get_running_loop().add_reader(self._handover, self._take_returned)

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    @property
    def age_s(self) -> float:
        """For how long it has lived."""
        return time.monotonic() - self.started_at

    @property
    def connections(self) -> int:
        """Connections that were given to it and have not ended there."""
        return sum(self.open_at(door) for door in self._given)

    def open_at(self, door: Door) -> int:
        """Those that came by one door."""
        if self.state is State.ENDED:
            return 0
        return self._given[door] - self._ended_count.read(door)

    async def settled(self) -> None:
        """Until it is ready, or has ended."""
        await self._settled.wait()

    async def ended(self) -> int:
        """The exit status; below zero the signal that ended it."""
        return await asyncio.shield(self._exit)

    def give(self, door: Door, connections: Sequence[socket.socket]) -> bool:
        """Give it connections; False, and nothing happened, where it takes none at the moment."""
        if not give(self._handover, door, connections):
            return False
        self._given[door] += len(connections)
        self.last_given = next(_TURNS)
        return True

    async def request(self, kind: str, payload: Payload = None) -> Payload:
        """What the worker answers; raises `Unavailable` where it has gone."""
        return await self._channel.request(kind, payload)

    async def drain(self, *, hand_over: bool, grace_s: float) -> None:
        """Have it finish what it holds and end; killed when that takes longer than its grace.

        With `hand_over` it gives its connections back as they fall idle.
        """
        self._change(State.DRAINING)
        try:
            async with asyncio.timeout(grace_s + _MARGIN_S):
                with contextlib.suppress(ModelyardError):
                    await self.request("drain", {"hand_over": hand_over, "grace_s": grace_s})
                await self.ended()
        except TimeoutError:
            _log.warning("worker %d (pid %d) did not end in time; killed", self.slot, self.pid)
            self.kill()
            await self.ended()

    def kill(self) -> None:
        """End it at once."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def _change(self, state: State) -> None:
        if self.state is not State.ENDED:
            self.state = state
        self.on_changed()

    async def _take_listening(self, _: WorkerId, payload: Payload) -> None:
        self.listening_since = time.monotonic()
        self.on_changed()

    async def _take_ready(self, _: WorkerId, payload: Payload) -> None:
        if self.state is State.STARTING:
            self._change(State.READY)
        self._settled.set()

    async def _take_leaving(self, _: WorkerId, payload: Payload) -> None:
        self._change(State.DRAINING)

    async def _take_failure(self, _: WorkerId, payload: Payload) -> None:
        kind = Kind(payload["kind"])
        self.failure = make_error(kind, payload["code"], payload["message"], field=payload["field"])

    def _take_returned(self) -> None:
        self._take_back(self._handover)

    def _take_back(self, end: socket.socket) -> bool:
        """Pass on what one message at this end holds; whether there was one."""
        taken = take(end, self._family)
        if taken is None or not taken[1]:
            return False
        self.on_returned(*taken)
        return True

    def _take_end(self, _: "asyncio.Future[int]") -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._handover)
        self._channel.close()
        self._change(State.ENDED)
        self._ended_count.close()
        # What it handed back, and what it was given and never took: nothing of that is lost.
        for end in (self._handover, self._far_handover):
            while self._take_back(end):
                pass
            end.close()
        self._settled.set()
