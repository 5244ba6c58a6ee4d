import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from modelyard.core.errors import Unavailable
from modelyard.serving.supervision.supervisor import Policy, Slot, Supervisor
from modelyard.serving.supervision.worker import Descriptors, State

STUB = Path(__file__).with_name("stub_worker.py")
DESCRIPTORS = Path("/proc/self/fd")
POLICY = Policy(drain_s=5.0, hang_s=0.6, first_wait_s=0.05)


class Place:
    """A supervisor over stub workers, and a way to call them."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder = folder
        self.launches = 0
        self.python = sys.executable
        self.callers: list[Caller] = []
        bound = socket.create_server(("127.0.0.1", 0))
        self.address = bound.getsockname()
        self.supervisor = Supervisor(
            [bound], self.command, workers=workers, policy=POLICY, handlers={}
        )

    def command(self, descriptors: Descriptors) -> list[str]:
        self.launches += 1
        return [self.python, str(STUB), str(self.folder), *map(str, descriptors)]

    def order(self, text: str) -> None:
        (self.folder / "order").write_text(text)

    async def call(self) -> "Caller":
        caller = Caller(*await asyncio.open_connection(*self.address))
        self.callers.append(caller)
        return caller

    async def stop(self) -> None:
        for caller in self.callers:
            caller.writer.close()
        await self.supervisor.stop()

    async def wait_until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not is_so():
                await asyncio.sleep(0.01)

    @property
    def open(self) -> int:
        return sum(each.connections for each in self.supervisor.workers)

    @property
    def ready(self) -> list[int]:
        return [each.pid for each in self.supervisor.workers if each.state is State.READY]


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def ask(self) -> int:
        """The process id of who answers on this connection."""
        self.writer.write(b"who\n")
        async with asyncio.timeout(20):
            line = await self.reader.readline()
        assert line, "the connection was closed"
        return int(line)


@contextlib.asynccontextmanager
async def place(folder: Path, workers: int = 2, *, starts: bool = True) -> AsyncIterator[Place]:
    made = Place(folder, workers)
    try:
        if starts:
            await made.supervisor.start()
        yield made
    finally:
        await made.stop()


def test_connections_go_where_the_fewest_are(tmp_path: Path) -> None:
    """Open and closed ones are counted: each new one goes to the worker with the fewest."""

    async def run() -> None:
        async with place(tmp_path, 3) as made:
            callers = [await made.call() for _ in range(9)]
            who = [await caller.ask() for caller in callers]
            assert sorted(Counter(who).values()) == [3, 3, 3]
            for caller, pid in zip(callers, who, strict=True):
                if pid == who[0]:
                    caller.writer.close()
            await made.wait_until(lambda: made.open == 6)
            again = [await (await made.call()).ask() for _ in range(3)]
            assert set(again) == {who[0]}

    asyncio.run(run())


def test_workers_take_turns_when_none_has_more(tmp_path: Path) -> None:
    """Callers that come one after the other, and leave, do not all go to the same worker."""

    async def run() -> None:
        async with place(tmp_path, 2) as made:
            who = []
            for _ in range(4):
                caller = await made.call()
                who.append(await caller.ask())
                caller.writer.close()
                await made.wait_until(lambda: made.open == 0)
            assert sorted(Counter(who).values()) == [2, 2]

    asyncio.run(run())


def test_a_dead_worker_is_started_again(tmp_path: Path) -> None:
    """A killed worker is back, and connections made meanwhile wait for an answer."""

    async def run() -> None:
        async with place(tmp_path, 1) as made:
            (pid,) = made.ready
            os.kill(pid, signal.SIGKILL)
            caller = await made.call()
            assert await caller.ask() != pid
            assert made.supervisor.slots[0].restarts == 1

    asyncio.run(run())


def test_what_a_worker_never_took_goes_to_another(tmp_path: Path) -> None:
    """Connections that a stopped worker was given, and that it never read, outlive it."""

    async def run() -> None:
        async with place(tmp_path, 1) as made:
            (pid,) = made.ready
            os.kill(pid, signal.SIGSTOP)
            callers = [await made.call() for _ in range(5)]
            (worker,) = made.supervisor.workers
            await made.wait_until(lambda: worker.connections == 5)
            os.kill(pid, signal.SIGKILL)
            assert pid not in [await caller.ask() for caller in callers]

    asyncio.run(run())


def test_a_crash_loop_backs_off(tmp_path: Path) -> None:
    """Started again at once, then after a wait that doubles; a steady life forgets it."""
    slot = Slot(1)
    policy = Policy()
    waits = [slot.next_wait_s(policy, lived_s=1.0) for _ in range(10)]
    assert waits == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert slot.next_wait_s(policy, lived_s=31.0) == 0.0

    async def run() -> None:
        async with place(tmp_path, 1) as made:
            made.order("crash")
            os.kill(made.ready[0], signal.SIGKILL)
            await made.wait_until(lambda: made.supervisor.slots[0].wait_s >= 0.2)
            made.order("")
            await made.wait_until(lambda: bool(made.ready))
            assert made.launches < 10

    asyncio.run(run())


def test_a_worker_that_hangs_is_killed(tmp_path: Path) -> None:
    """One whose loop does not answer is replaced by one that does."""

    async def run() -> None:
        made = Place(tmp_path, 1)
        made.order("hang")
        try:
            await made.supervisor.start()
            (pid,) = made.ready
            made.order("")
            await made.wait_until(lambda: bool(made.ready) and made.ready != [pid])
        finally:
            await made.stop()

    asyncio.run(run())


def test_workers_are_replaced_and_connections_stay(tmp_path: Path) -> None:
    """A connection answered by an old worker is answered by a new one afterwards."""

    async def run() -> None:
        async with place(tmp_path, 2) as made:
            before = set(made.ready)
            callers = [await made.call() for _ in range(100)]
            assert {await caller.ask() for caller in callers} == before
            await made.supervisor.replace()
            after = {await caller.ask() for caller in callers}
            assert after == set(made.ready)
            assert after.isdisjoint(before)

    asyncio.run(run())


@pytest.mark.parametrize("order", ["crash", "refuse"])
def test_a_new_worker_that_fails_replaces_nobody(tmp_path: Path, order: str) -> None:
    """When the new code does not start, the old workers go on."""

    async def run() -> None:
        async with place(tmp_path, 2) as made:
            before = made.ready
            made.order(order)
            await made.supervisor.replace()
            assert made.ready == before
            assert made.launches == 3

    asyncio.run(run())


@pytest.mark.parametrize(
    ("order", "code", "told"),
    [
        ("refuse", "stubborn", "not today"),
        ("crash", "no_worker", r"worker \d ended before it was ready \(exit status 3\)"),
    ],
)
def test_a_first_worker_that_fails_fails_the_start(
    tmp_path: Path, order: str, code: str, told: str
) -> None:
    """Why a worker does not start is raised, and no process is left."""

    async def run() -> None:
        made = Place(tmp_path, 2)
        made.order(order)
        with pytest.raises(Unavailable, match=told) as refused:
            await made.supervisor.start()
        assert refused.value.code == code
        assert not made.supervisor.workers
        await made.stop()

    asyncio.run(run())


def test_a_worker_that_loads_for_long_answers_for_itself(tmp_path: Path) -> None:
    """It is not killed; callers wait a moment, and then hear from it that it is starting."""

    async def run() -> None:
        made = Place(tmp_path, 1)
        made.order("never")
        starting = asyncio.ensure_future(made.supervisor.start())
        caller = await made.call()
        (pid,) = {await caller.ask()}
        assert made.supervisor.workers[0].pid == pid
        assert made.supervisor.workers[0].state is State.STARTING
        starting.cancel()
        await made.stop()

    asyncio.run(run())


def test_a_worker_that_cannot_be_started_is_tried_again(tmp_path: Path) -> None:
    """A system without room for a process, for a while, costs a worker for a while."""

    async def go() -> None:
        async with place(tmp_path, workers=1) as here:
            here.python = str(tmp_path / "nowhere")
            before = here.launches
            os.kill(here.ready[0], signal.SIGKILL)
            await here.wait_until(lambda: here.launches >= before + 3)
            here.python = sys.executable
            await here.wait_until(lambda: len(here.ready) == 1)
            await (await here.call()).ask()

    asyncio.run(go())


def test_a_successor_that_cannot_be_started_replaces_nobody(tmp_path: Path) -> None:
    """The workers stay, with their connections, and no descriptor is left behind."""

    async def go() -> None:
        async with place(tmp_path) as here:
            caller = await here.call()
            pid, ready = await caller.ask(), here.ready
            here.python = str(tmp_path / "nowhere")
            before = list(DESCRIPTORS.iterdir())
            for _ in range(3):
                await here.supervisor.replace()
            assert len(list(DESCRIPTORS.iterdir())) == len(before)
            assert here.ready == ready
            assert await caller.ask() == pid

    asyncio.run(go())


def test_a_first_worker_that_cannot_be_started_fails_the_start(tmp_path: Path) -> None:
    """It is said as an error of ours, and nothing is left running."""

    async def go() -> None:
        async with place(tmp_path, starts=False) as here:
            here.python = str(tmp_path / "nowhere")
            with pytest.raises(Unavailable, match="nowhere"):
                await here.supervisor.start()
            assert not here.supervisor.workers

    asyncio.run(go())
