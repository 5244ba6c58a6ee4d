import threading
import time

from modelyard.serving.lane import LaneClock


def spin(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_what_a_device_takes_is_a_cost() -> None:
    """A run that only waits for something outside of this process costs all of its time."""
    clock = LaneClock()
    time.sleep(0.008)
    clock.stop()
    assert clock.cost_us > 6_000


def test_what_the_model_computes_is_a_cost() -> None:
    """However busy the machine: its own time counts in full."""
    clock = LaneClock()
    spin(0.02)
    clock.stop()
    assert clock.took_ns >= 20_000_000
    assert clock.cost_us >= 19_000


def test_waiting_while_others_compute_is_none() -> None:
    """A lane that could not run because another thread of this process did is not the slower."""
    go_on, stop = threading.Event(), threading.Event()

    def keep_busy() -> None:
        go_on.set()
        while not stop.is_set():
            spin(0.001)

    other = threading.Thread(target=keep_busy)
    other.start()
    try:
        assert go_on.wait(10)
        spared_us = []
        for _ in range(5):
            clock = LaneClock()
            time.sleep(0.004)
            clock.stop()
            spared_us.append(clock.took_ns / 1000 - clock.cost_us)
    finally:
        stop.set()
        other.join()
    assert max(spared_us) > 2_000
