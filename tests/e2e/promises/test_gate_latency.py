"""Who waits for a limit, or storms against one, costs nobody else anything to speak of."""

import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from modelyard.testing.traffic import Plan, driving
from tests.e2e.conftest import Server
from tests.e2e.promises.keyed import (
    MODEL,
    OFFSETS,
    PATH,
    bearer,
    call,
    header_line,
    keyed,
    until,
)
from tests.e2e.promises.stage import http_asks, http_body
from tests.outages import stopped

WAITING = 50
QUICK_MS = 150.0
"""Two cores are shared with the traffic, and with whatever else this machine does."""
STORM_S = 2.0


def test_health_is_quick_while_callers_wait_for_quota(
    tmp_path: Path, postgres_server: str, postgres_url: str
) -> None:
    """The registry hangs, fifty callers wait for what it leases: health answers at once, and so
    does a call that no quota counts."""
    with keyed(tmp_path, database_url=postgres_url) as home, home.serving(workers=1) as server:
        free, limited = home.key("free"), home.key("limited")
        home.limit("quota", 100_000, key=limited.record.id)
        until(lambda: call(server, free) == 200)
        # Nothing is leased yet: the first call has to ask.
        with stopped(postgres_server, postgres_url):
            answers: list[int] = []
            waiting = [
                threading.Thread(target=lambda: answers.append(call(server, limited)))
                for _ in range(WAITING)
            ]
            for each in waiting:
                each.start()
            with httpx.Client(base_url=server.url, headers=bearer(free), timeout=30) as client:
                # The first of each connection is slower, whoever waits.
                client.get("/v2/health/live").raise_for_status()
                live = slowest_ms(lambda: client.get("/v2/health/live").raise_for_status())
                ready = slowest_ms(lambda: client.get("/v2/health/ready").raise_for_status())
                calls = slowest_ms(
                    lambda: client.post(PATH, content=http_body(1.0)).raise_for_status()
                )
            for each in waiting:
                each.join()
        assert (live < QUICK_MS, ready < QUICK_MS, calls < QUICK_MS) == (True,) * 3, (
            live,
            ready,
            calls,
        )
        # None is let in uncounted, and none waits for ever.
        assert answers == [503] * WAITING
        until(lambda: call(server, limited) == 200)


def slowest_ms(ask: Callable[[], object], times: int = 100) -> float:
    """Of some, one after the other."""
    slowest = 0.0
    for _ in range(times):
        began = time.perf_counter()
        ask()
        slowest = max(slowest, time.perf_counter() - began)
    return slowest * 1000


def test_a_storm_of_refusals_is_cheaper_than_one_of_answers(tmp_path: Path) -> None:
    """One key asks as fast as it is answered, far past its rate. Another key's slow and steady
    calls wait no longer for it than for a storm that is let in."""
    with keyed(tmp_path) as home, home.serving(workers=2) as server:
        steady, storming, limited = (home.key(name) for name in ("steady", "storming", "limited"))
        home.limit("rate", 60, burst=1, key=limited.record.id)
        for key in (steady, storming):
            until(lambda key=key: call(server, key) == 200)  # type: ignore[misc]
        until(lambda: call(server, limited) == 429)
        alone = p99_ms(server, header_line(steady))
        found = {}
        for name, key in (("let in", storming), ("refused", limited)):
            storm = plan(server, header_line(key), connections=8, per_second=0)
            with driving(storm) as driven:
                driven.wait(lambda tally: tally.sent > 500)
                found[name] = p99_ms(server, header_line(steady))
                tally = driven.stop()
            if name == "refused":
                assert tally.statuses["429"] > tally.sent - 10
        assert found["refused"] < max(3 * found["let in"], alone + 25.0), (alone, found)


def plan(server: Server, headers: tuple[str, ...], **more: int) -> Plan:
    """Calls over HTTP."""
    url = f"{server.url}{PATH}"
    return Plan(url, http_asks(MODEL, OFFSETS), headers=headers, **more)


def p99_ms(server: Server, headers: tuple[str, ...]) -> float:
    """What of a steady caller's waits a hundredth are longer than; all of them are answered."""
    told = []
    with driving(plan(server, headers, connections=2, per_second=100)) as driven:
        until_s = time.monotonic() + STORM_S
        last = 0
        while time.monotonic() < until_s:
            tally = driven.wait(lambda tally, last=last: tally.sent > last)  # type: ignore[misc]
            last = tally.sent
            told.append(tally.p99_ms)
        tally = driven.stop()
    assert tally.bad == 0
    # Each telling is of a few calls, and so their slowest: of those, all but a few.
    told.sort()
    return told[int(len(told) * 0.9)]
