"""The supervisor: starts workers, watches them, restarts what dies, replaces and drains."""

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from modelyard.core.errors import ModelyardError, Unavailable
from modelyard.serving.supervision.acceptor import Acceptor
from modelyard.serving.supervision.channel import Payload
from modelyard.serving.supervision.handover import Door
from modelyard.serving.supervision.worker import Command, Handler, State, Worker, WorkerId

_log = logging.getLogger(__name__)

_HOLD_S: Final = 1.0
"""How long connections wait for a worker that listens and still loads. A restart takes less; one
that takes longer may say itself that it is starting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How patient a supervisor is, in seconds.

    A worker that ends unasked is started again: at once when it has lived for `steady_s`, else
    after `first_wait_s`, doubled each time up to `last_wait_s`. One whose loop has not answered for
    `hang_s` is killed.
    """

    drain_s: float = 20.0
    hang_s: float = 30.0
    first_wait_s: float = 0.1
    last_wait_s: float = 10.0
    steady_s: float = 30.0


class Slot:
    """A place for one worker, whoever fills it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.worker: Worker | None = None
        self.restarts = 0
        self.wait_s = 0.0
        self.has_begun = False
        self.is_being_replaced = False
        self.is_being_filled = False

    def next_wait_s(self, policy: Policy, lived_s: float) -> float:
        """How long to wait before the next start, after a worker that lived for so long."""
        if lived_s >= policy.steady_s:
            self.wait_s = 0.0
        wait_s, self.wait_s = (
            self.wait_s,
            min(max(self.wait_s * 2, policy.first_wait_s), policy.last_wait_s),
        )
        return wait_s


class Supervisor:
    """Keeps workers running behind listening sockets, its doors.

    Used on the event loop's thread only.
    """

    def __init__(
        self,
        doors: Sequence[socket.socket],
        command: Command,
        *,
        workers: int,
        policy: Policy,
        handlers: Mapping[str, Handler],
        on_ended: Callable[[WorkerId], None] = lambda _: None,
    ) -> None:
        self._on_ended = on_ended
        self.slots = [Slot(number) for number in range(1, workers + 1)]
        self._family = doors[0].family
        self._command = command
        self._policy = policy
        self._handlers = handlers
        self._acceptors = [Acceptor(door, bound, self._takers) for door, bound in enumerate(doors)]
        self._workers: dict[WorkerId, Worker] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._replacing = asyncio.Lock()
        self._is_stopping = False

    async def start(self) -> None:
        """Listen and start every worker; returns when each is ready.

        Raises why one does not get ready, and then none is left.
        """
        for acceptor in self._acceptors:
            acceptor.start()
        try:
            async with asyncio.TaskGroup() as starting:
                for slot in self.slots:
                    starting.create_task(self._begin(slot))
        except* ModelyardError as refused:
            self._close_doors()
            self.kill()
            await asyncio.gather(*(each.ended() for each in self.workers))
            await self._end_tasks()
            raise _first(refused) from None

    async def replace(self) -> None:
        """New workers for the old, one slot after the other; no connection is lost.

        Where a new one does not get ready, the old ones stay, and this stops.
        """
        async with self._replacing:
            for slot in self.slots:
                if self._is_stopping or not await self._replace(slot):
                    return

    async def stop(self) -> None:
        """Accept no more, let every worker finish what it holds, and end them all."""
        self._is_stopping = True
        self._close_doors()
        draining = [
            each.drain(hand_over=False, grace_s=self._policy.drain_s) for each in self.workers
        ]
        await asyncio.gather(*draining)
        await self._end_tasks()
        for acceptor in self._acceptors:
            acceptor.drop()

    def kill(self) -> None:
        """End every worker at once."""
        self._is_stopping = True
        for worker in self.workers:
            worker.kill()

    @property
    def workers(self) -> Sequence[Worker]:
        """Every worker that has not ended: one a slot, and those that are being replaced."""
        return tuple(self._workers.values())

    def worker(self, number: WorkerId) -> Worker:
        """The worker of an id, while it lives."""
        return self._workers[number]

    async def ask_all(
        self, kind: str, payload: Payload = None, *, timeout_s: float | None
    ) -> dict[WorkerId, Payload]:
        """What every worker answers that is up; who goes or is silent meanwhile is left out."""

        async def ask(worker: Worker) -> None:
            with contextlib.suppress(ModelyardError, TimeoutError):
                async with asyncio.timeout(timeout_s):
                    answers[worker.id] = await worker.request(kind, payload)

        answers: dict[WorkerId, Payload] = {}
        await asyncio.gather(
            *(ask(each) for each in self.workers if each.listening_since is not None)
        )
        return answers

    def _takers(self) -> Sequence[Worker]:
        """The workers that may be given connections now."""
        ready = [each for each in self.workers if each.state is State.READY]
        if ready:
            return ready
        held_since = asyncio.get_running_loop().time() - _HOLD_S
        return [
            each
            for each in self.workers
            if each.state is State.STARTING
            and each.listening_since is not None
            and each.listening_since <= held_since
        ]

    async def _begin(self, slot: Slot) -> None:
        worker = await self._launch(slot)
        slot.worker = worker
        await worker.settled()
        if worker.state is State.ENDED:
            raise worker.failure or Unavailable(
                "no_worker",
                f"worker {slot.number} ended before it was ready "
                f"({_told(await worker.ended())}); what it wrote says why",
            )
        slot.has_begun = True

    async def _fill(self, slot: Slot, wait_s: float = 0.0) -> None:
        """Start a worker in an empty slot, and try until the system has room for it."""
        if slot.is_being_filled:
            return
        slot.is_being_filled = True
        try:
            while True:
                await asyncio.sleep(wait_s)
                if slot.worker is not None or slot.is_being_replaced or self._is_stopping:
                    return
                try:
                    slot.worker = await self._launch(slot)
                except ModelyardError as error:
                    wait_s = max(slot.next_wait_s(self._policy, 0.0), self._policy.first_wait_s)
                    _log.error("%s; trying again in %g s", error.message, wait_s)
        finally:
            slot.is_being_filled = False

    async def _launch(self, slot: Slot) -> Worker:
        """A worker that has begun; raises `Unavailable` where there can be no process."""
        try:
            worker = Worker(slot.number, self._family)
            worker.on_changed = self._share_soon
            worker.on_returned = self._share_again
            await worker.start(self._command, self._handlers)
        except OSError as error:
            raise Unavailable(
                "no_worker", f"worker {slot.number} cannot be started: {error}"
            ) from None
        self._workers[worker.id] = worker
        if self._is_stopping:
            worker.kill()
        self._keep(self._watch(slot, worker))
        self._keep(self._ping(worker))
        return worker

    async def _watch(self, slot: Slot, worker: Worker) -> None:
        """Wait for a worker's end; start another where nobody asked for it."""
        status = await worker.ended()
        del self._workers[worker.id]
        self._on_ended(worker.id)
        if self._is_stopping or slot.worker is not worker or not slot.has_begun:
            return
        slot.worker = None
        if slot.is_being_replaced:
            return
        slot.restarts += 1
        wait_s = slot.next_wait_s(self._policy, worker.age_s)
        why = worker.failure.message if worker.failure is not None else _told(status)
        _log.error(
            "worker %d (pid %d) ended: %s; it is started again%s",
            slot.number,
            worker.pid,
            why,
            f" in {wait_s:g} s" if wait_s else "",
        )
        await self._fill(slot, wait_s)

    async def _replace(self, slot: Slot) -> bool:
        slot.is_being_replaced = True
        try:
            worker = await self._successor(slot)
        finally:
            slot.is_being_replaced = False
        if worker is None:
            if slot.worker is None:
                self._keep(self._fill(slot))
            return False
        before, slot.worker = slot.worker, worker
        if before is not None:
            await before.drain(hand_over=True, grace_s=self._policy.drain_s)
        _log.info("worker %d was replaced (pid %d)", slot.number, worker.pid)
        return True

    async def _successor(self, slot: Slot) -> Worker | None:
        """A worker that is ready to take the slot; None where there is none."""
        try:
            worker = await self._launch(slot)
        except ModelyardError as error:
            _log.error("%s", error.message)
            return None
        await worker.settled()
        if worker.state is State.READY:
            return worker
        if not self._is_stopping:
            why = worker.failure.message if worker.failure is not None else "see above"
            _log.error("the new worker %d did not get ready: %s", slot.number, why)
        return None

    async def _ping(self, worker: Worker) -> None:
        """Kill a worker whose loop hangs."""
        while worker.state is not State.ENDED:
            await asyncio.sleep(self._policy.hang_s / 3)
            if worker.listening_since is None:
                continue
            try:
                async with asyncio.timeout(self._policy.hang_s):
                    await worker.request("ping")
            except TimeoutError:
                _log.error(
                    "worker %d (pid %d) has not answered for %g s; killed",
                    worker.slot,
                    worker.pid,
                    self._policy.hang_s,
                )
                worker.kill()
            except ModelyardError:
                return

    def _share_soon(self) -> None:
        """A worker has changed: connections that wait may have one now, or in a moment."""
        self._share_all()
        asyncio.get_running_loop().call_later(_HOLD_S, self._share_all)

    def _share_all(self) -> None:
        for acceptor in self._acceptors:
            acceptor.share()

    def _share_again(self, door: Door, connections: Sequence[socket.socket]) -> None:
        self._acceptors[door].share(connections)

    def _close_doors(self) -> None:
        for acceptor in self._acceptors:
            acceptor.close()

    def _keep(self, running: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(running)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _end_tasks(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _told(status: int) -> str:
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"


def _first(refused: ExceptionGroup[ModelyardError]) -> ModelyardError:
    error = refused.exceptions[0]
    return _first(error) if isinstance(error, ExceptionGroup) else error
