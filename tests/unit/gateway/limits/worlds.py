"""Homes and workers in one process, on one loop, in a time that passes as fast as it can.

A worker that dies lets go of its files and forgets everything, as the kernel makes a killed process
do; its till stays.
"""

import asyncio
import dataclasses
import datetime
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelyard.core.call import Call
from modelyard.core.errors import Internal, ModelyardError, Unavailable
from modelyard.core.identity import Principal, Role
from modelyard.core.leases import Ask, Lease
from modelyard.core.limits import Limit
from modelyard.core.rules import Rules
from modelyard.core.usage import Tariff
from modelyard.gateway.limits.allowances import Allowances
from modelyard.gateway.limits.pockets import Clock
from modelyard.gateway.permits import Allowance
from modelyard.registry.database import Database
from modelyard.registry.leases import LeaseBook

SOMEBODY = Principal(tenant="acme", key="k1", name="somebody", role=Role.CALLER)
NOON_S = datetime.datetime(2026, 5, 3, 12, tzinfo=datetime.UTC).timestamp()


class TravellingLoop(asyncio.SelectorEventLoop):
    """Never sleeps: where nothing is to be done, it is later at once. Threads' work is its own."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 1000.0

    def time(self) -> float:
        return self.now_s

    def run_in_executor(  # type: ignore[override]
        self, executor: Executor | None, work: Callable[..., Any], *arguments: Any
    ) -> "asyncio.Future[Any]":
        done = self.create_future()
        try:
            done.set_result(work(*arguments))
        except Lost:
            # Its process will be dead before it hears.
            pass
        except Exception as error:  # noqa: BLE001 - as a future keeps it
            done.set_exception(error)
        return done

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now_s = max(self.now_s, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


class Lost(Exception):
    """What the registry did is never heard of."""


@dataclass
class Registry:
    """Whether it can be reached by anybody."""

    is_down: bool = False


class Store:
    """The registry as one worker reaches it; its answers may be lost."""

    def __init__(self, book: LeaseBook, registry: Registry) -> None:
        self._book = book
        self._registry = registry
        self.loses = False

    def exchange(self, node: str, asks: Sequence[Ask]) -> Sequence[Lease]:
        self._check()
        leases = self._book.exchange(node, asks)
        if self.loses:
            raise Lost
        return leases

    def held(self, node: str) -> Sequence[Lease]:
        self._check()
        return self._book.held(node)

    def beat(self, node: str) -> int:
        self._check()
        return self._book.beat(node)

    def leave(self, node: str) -> None:
        self._check()
        self._book.leave(node)

    def _check(self) -> None:
        if self._registry.is_down:
            raise Unavailable("registry_unavailable", "down, for a test")


class World:
    """A registry, homes, and the workers in them."""

    def __init__(self, folder: Path, *limits: Limit, tariffs: Sequence[Tariff] = ()) -> None:
        self.loop = TravellingLoop()
        self.database = Database.open("sqlite://")
        self.registry = Registry()
        self.jump_s = 0.0
        self.clock = Clock(
            wall=lambda: NOON_S + self.loop.now_s + self.jump_s,
            monotonic_ns=lambda: int(self.loop.now_s * 1e9),
        )
        self.rules = Rules(limits=limits, tariffs=tuple(tariffs))
        self.workers: list[Worker] = []
        self._folder = folder

    def start(self, home: str = "one") -> "Worker":
        worker = Worker(self, self._folder / home, home)
        self.workers.append(worker)
        return worker

    def follow(self, *limits: Limit) -> None:
        """Let these be the limits, in all workers."""
        self.rules = dataclasses.replace(self.rules, limits=limits)

        async def follow() -> None:
            for worker in self.workers:
                worker.allowances.follow(self.rules)

        self.loop.run_until_complete(follow())
        self.pass_time(0.5)

    def pass_time(self, seconds: float) -> None:
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        for worker in self.workers[:]:
            worker.kill()
        self.pass_time(0.0)
        self.loop.close()
        self.database.close()


class Worker:
    """A worker of a home: its allowances, and the calls that it has let in."""

    def __init__(self, world: World, folder: Path, home: str) -> None:
        self.home = home
        self.open: list[Call] = []
        self._world = world
        self.store = Store(LeaseBook(world.database), world.registry)
        self.allowances = Allowances(folder, self.store, clock=world.clock)

        async def start() -> None:
            self.allowances.follow(world.rules)
            await self.allowances.start()

        world.loop.run_until_complete(start())

    def allowance(self, principal: Principal = SOMEBODY, model: str = "churn") -> Allowance:
        allowance = self.allowances.of(principal, model)
        assert allowance is not None
        return allowance

    def begin(self, rows: int = 1, allowance: Allowance | None = None) -> Call:
        """A call that is let in, kept, or has ended in its refusal."""
        call = Call(None, {}, rows, lambda call: None)  # type: ignore[arg-type]
        call.started_ns = self._world.clock.monotonic_ns()
        allowance = allowance or self.allowance()

        async def reserve() -> None:
            try:
                may_run = allowance.reserve(call, self.open.append)
            except ModelyardError as error:
                call.fail(error)
                return
            call.settle = allowance.settle
            if may_run:
                self.open.append(call)

        self._world.loop.run_until_complete(reserve())
        return call

    def end(self, call: Call, *, well: bool = True) -> None:
        """The call is answered, or fails."""
        self.open.remove(call)

        async def end() -> None:
            if well:
                call.answer({})
            else:
                call.fail(Internal("broken", "for a test"))

        self._world.loop.run_until_complete(end())

    def call(self, rows: int = 1) -> Call:
        """A call from its begin to its end, however long it waits."""
        call = self.begin(rows)
        while call not in self.open and call.outcome is None:
            self._world.pass_time(0.02)
        if call.outcome is None:
            self.end(call)
        return call

    def kill(self) -> None:
        self._world.workers.remove(self)

        limits = self.allowances

        async def kill() -> None:
            limits._is_closed = True
            for each in (limits._rounds, limits._tick):
                if each is not None:
                    each.cancel()
            limits._leasing.stop()
            limits._till.close()

        self._world.loop.run_until_complete(kill())

    def stop(self) -> None:
        """Drain, and end well."""
        for call in self.open[:]:
            self.end(call)
        self._world.workers.remove(self)
        self._world.loop.run_until_complete(self.allowances.stop())
