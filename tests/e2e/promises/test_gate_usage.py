"""Meters that lie elsewhere: usage is what callers were answered, whoever hangs up or is away."""

import contextlib
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.core.call import Outcome
from modelyard.core.records import IssuedKey
from modelyard.testing.traffic import Tally
from tests.e2e.conftest import Server
from tests.e2e.promises.keyed import (
    MODEL,
    OFFSETS,
    Keyed,
    bearer,
    call,
    header_line,
    keyed,
    open_calls,
    spool_state,
    stop,
    until,
    worker_pids,
)
from tests.e2e.promises.stage import Leaver, leaver, loaded
from tests.graphs import slow
from tests.outages import refusing, stopped

FOR_EVER = 1e12
"""Turns of `slow` that nobody sees the end of."""


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keyed]:
    """A home whose registry is of either kind."""
    url = request.getfixturevalue("postgres_url") if request.param == "postgresql" else ""
    with keyed(tmp_path, **({"database_url": url} if url else {})) as home:
        yield home


def assert_metered(home: Keyed, key: IssuedKey, *tallies: Tally) -> None:
    """Every answer that a caller got is in the usage once, and nothing that nobody asked for."""
    home.assert_all_copied()
    ends = home.outcomes(key)
    answered = sum(tally.good for tally in tallies)
    unknown = sum(tally.lost for tally in tallies)
    assert answered <= ends[Outcome.OK] <= answered + unknown, (ends, tallies)
    assert ends.total() <= sum(tally.sent for tally in tallies), (ends, tallies)


def test_every_worker_is_in_the_report(home: Keyed) -> None:
    """litellm#14929: each worker reported only itself. One report has the calls of all."""
    key = home.key()
    with home.serving(workers=3) as server:
        with loaded(server, MODEL, OFFSETS, per_second=1500, headers=header_line(key)) as load:
            load.more(400)
            tallies = load.stop()
        stop(server)
    assert_metered(home, key, *tallies)
    spools = Counter(event.call.partition("-")[0] for event in home.yard.registry.usage.events())
    assert len(spools) == 3
    (line,) = home.yard.registry.usage.report(("key", "model"), key=key.record.id).lines
    assert (line.calls, line.ok, line.rows) == (spools.total(),) * 3
    assert spools.total() == sum(tally.good for tally in tallies)


@pytest.mark.parametrize("how", ["silent", "refusing"])
def test_usage_outlives_the_database(
    tmp_path: Path, postgres_server: str, postgres_url: str, how: str
) -> None:
    """All five gateways that were read drop usage then. It is stopped under traffic, and workers
    are replaced meanwhile: each answer is in the report once when it is back."""
    away = {"silent": stopped, "refusing": refusing}[how]
    with keyed(tmp_path, database_url=postgres_url) as home:
        key = home.key()
        with home.serving(workers=2) as server:
            with loaded(server, MODEL, OFFSETS, headers=header_line(key)) as load:
                with away(postgres_server, postgres_url):
                    load.more(200)
                    os.kill(worker_pids(server)[0], signal.SIGKILL)
                    load.more(200)
                load.more(100)
                tallies = load.stop()
            stop(server)
        assert {status for tally in tallies for status in tally.statuses} <= {"UNAVAILABLE"}
        assert sum(tally.good for tally in tallies) > 800
        home.command("usage", "copy", MODELYARD_DATABASE_URL=postgres_url)
        assert_metered(home, key, *tallies)


def test_status_says_what_waits_for_the_database(
    tmp_path: Path, postgres_server: str, postgres_url: str
) -> None:
    """While it is away the operator sees how many events wait, and why."""
    with keyed(tmp_path, database_url=postgres_url) as home, home.serving() as server:
        key = home.key()
        until(lambda: call(server, key) == 200)
        with refusing(postgres_server, postgres_url):
            for _ in range(20):
                assert call(server, key) == 200
            until(lambda: spool_state(server).waiting >= 20)
            until(lambda: bool(spool_state(server).trouble))
        until(lambda: spool_state(server).waiting == 0)
        assert spool_state(server).trouble == ""
        assert home.outcomes(key) == {Outcome.OK: 21}


def test_who_hangs_up_pays_for_what_ran(tmp_path: Path) -> None:
    """litellm#14457, new-api#4463: a client that disconnects before the answer is not free;
    new-api#4168: nor does it pay for what never ran. Usage and quota say the same number."""
    # One that has been quick is run on its process's loop, which then says nothing of anybody.
    options = {"isolation": "process", "inline_us": 0, "lanes": 1}
    with keyed(tmp_path, models={"slow": (slow(),)}, options=options) as home:
        key = home.key()
        quota = home.limit("quota", 100)
        with (
            home.serving(workers=1, MODELYARD_DRAIN_S="1") as server,
            contextlib.ExitStack() as stack,
        ):
            until(lambda: call(server, key, 1.0, "slow") == 200)
            first = _ask(stack, server, key)
            until(lambda: open_calls(server, "slow") == 1)
            others = [_ask(stack, server, key) for _ in range(5)]
            until(lambda: open_calls(server, "slow") == 6)
            for each in (*others, first):
                each.leave()
            until(lambda: open_calls(server, "slow") == 0)
            until(lambda: home.outcomes(key)[Outcome.CLIENT_GONE] == 6)
            until(lambda: home.standing(quota).spent == 2)
        (line,) = home.yard.registry.usage.report(("key",), key=key.record.id).lines
        assert (line.calls, line.ok, line.amount) == (7, 1, 2)


def _ask(stack: contextlib.ExitStack, server: Server, key: IssuedKey) -> Leaver:
    headers = bearer(key)
    asking = stack.enter_context(leaver(server, "slow", FOR_EVER, headers))
    asking.begin()
    return asking
