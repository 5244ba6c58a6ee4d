import asyncio
import sys
import threading
import time
import weakref
from collections.abc import Callable

import pytest

from modelyard.serving.lane import LaneClock, ThreadLane


def spin(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_lanes_let_the_loop_have_the_interpreter_soon() -> None:
    """Where there are lanes, no thread keeps the interpreter for longer than half a millisecond."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.005)
    try:
        loop = asyncio.new_event_loop()
        ThreadLane(loop, "a lane").close()
        loop.close()
        assert sys.getswitchinterval() == pytest.approx(0.0005)
    finally:
        sys.setswitchinterval(before)


def test_an_idle_lane_holds_nothing_of_its_last_batch() -> None:
    """What was run is freed when it has ended, not when the next batch comes."""

    class Tensor:
        pass

    async def go() -> None:
        lane = ThreadLane(asyncio.get_running_loop(), "a lane")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        tensor = Tensor()
        kept = weakref.ref(tensor)

        def work(tensor: Tensor = tensor) -> Callable[[], None]:
            return lambda: done.set_result(None)

        lane.start(work)
        del tensor, work
        await asyncio.wait_for(done, 10)
        async with asyncio.timeout(10):
            while kept() is not None:
                await asyncio.sleep(0)
        lane.close()

    asyncio.run(go())


def test_what_a_device_takes_is_idle_time() -> None:
    """A run that only waits for something outside of this process is idle most of the time."""
    shares = []
    for _ in range(5):
        clock = LaneClock()
        time.sleep(0.004)
        clock.stop()
        shares.append(clock.idle_ns / clock.took_ns)
    assert max(shares) > 0.8


def test_what_the_model_computes_is_computing_time() -> None:
    """However busy the machine: its own time counts in full."""
    clock = LaneClock()
    spin(0.02)
    clock.stop()
    assert clock.took_ns >= clock.cpu_ns >= 20_000_000
    assert clock.ended_ns - clock.started_ns == clock.took_ns


def test_a_wait_while_others_compute_is_not_idle_time() -> None:
    """A lane that could not run because another thread of this process did was not idle."""
    go_on, stop = threading.Event(), threading.Event()

    def keep_busy() -> None:
        go_on.set()
        while not stop.is_set():
            spin(0.001)

    other = threading.Thread(target=keep_busy)
    other.start()
    try:
        assert go_on.wait(10)
        share = 1.0
        for _ in range(1000):
            clock = LaneClock()
            time.sleep(0.004)
            clock.stop()
            share = min(share, clock.idle_ns / clock.took_ns)
            if share < 0.5:
                break
    finally:
        stop.set()
        other.join()
    assert share < 0.5
