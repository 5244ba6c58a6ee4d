"""Everything at once, for some seconds; then what must be true however it went is true."""

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from modelyard.core.call import Outcome
from modelyard.core.errors import ModelyardError
from modelyard.core.records import IssuedKey
from modelyard.testing.traffic import Tally
from tests.e2e.conftest import PATIENCE_S, Server
from tests.e2e.promises.keyed import (
    MODEL,
    OFFSETS,
    PATH,
    Keyed,
    bearer,
    header_line,
    keyed,
    stop,
    worker_pids,
)
from tests.e2e.promises.stage import Load, http_body, loaded
from tests.outages import refusing, stopped

CHAOS_S: Final = 8.0
QUOTA: Final = 600
RAISED: Final = 800
DEAD_WITHIN_S: Final = 1.0
"""A revoked key must be, while the registry can be read."""


class Chaos:
    """Things that are done to a server again and again, each in a thread of its own."""

    def __init__(self) -> None:
        self.failed: list[BaseException] = []
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, act: Callable[[], None], every_s: float) -> None:
        """Do it now and then, until the chaos is over."""

        def go_on() -> None:
            while not self._over.wait(every_s):
                try:
                    act()
                except ModelyardError as error:
                    # The registry is away at times, and says so.
                    if error.code not in ("registry_unavailable", "registry_busy"):
                        self.failed.append(error)
                except BaseException as error:  # noqa: BLE001 - the test has to hear of it
                    self.failed.append(error)

        self._threads.append(threading.Thread(target=go_on))
        self._threads[-1].start()

    def end(self) -> None:
        """Let each finish what it does."""
        self._over.set()
        for each in self._threads:
            each.join(PATIENCE_S)
        assert self.failed == []


class Revoked:
    """Keys that are made, found good, revoked, and then asked with until they are refused."""

    def __init__(self, home: Keyed, server: Server) -> None:
        self._home = home
        self._server = server
        self.longest_s = 0.0
        self.count = 0

    def one(self) -> None:
        """The life of one key, and how long it was good after its end was told."""
        key = self._home.key("short")
        renewed = self._home.yard.registry.keys.rotate(key.record.id, overlap_s=30, actor="test")
        for each in (renewed, key):
            with httpx.Client(base_url=self._server.url, headers=bearer(each)) as client:
                deadline = time.monotonic() + 5
                while self._ask(client) != 200 and time.monotonic() < deadline:
                    time.sleep(0.02)
                self._home.yard.registry.keys.revoke(each.record.id, actor="test")
                revoked_at, last = time.monotonic(), 0.0
                while (now := time.monotonic()) < revoked_at + 1.2 * DEAD_WITHIN_S:
                    if self._ask(client) == 200:
                        last = now - revoked_at
                    time.sleep(0.02)
            self.longest_s = max(self.longest_s, last)
            self.count += 1

    def _ask(self, client: httpx.Client) -> int:
        try:
            return client.post(PATH, content=http_body(1.0)).status_code
        except httpx.TransportError:
            return 0


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keyed]:
    """A home whose registry is of either kind."""
    settings = {"drain_s": 5}
    if request.param == "postgresql":
        settings["database_url"] = request.getfixturevalue("postgres_url")
    with keyed(tmp_path, **settings) as home:
        yield home


def test_whatever_happens_the_gate_is_exact(home: Keyed, request: pytest.FixtureRequest) -> None:
    """Under kills, replacements, deploys, rotations, revocations, changed limits and outages: no
    quota is passed, each answer is metered once, the audit is whole, no dead key is let in."""
    free, limited = home.key("free"), home.key("limited")
    quota = home.limit("quota", QUOTA, key=limited.record.id)
    home.limit("rate", 60_000, key=free.record.id)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(home.serving(workers=3))
        loads = {
            key.record.id: stack.enter_context(
                loaded(server, MODEL, OFFSETS, per_second=rate, headers=header_line(key))
            )
            for key, rate in ((free, 300.0), (limited, 120.0))
        }
        chaos, revoked = Chaos(), Revoked(home, server)
        dice = random.Random(4)
        chaos.start(lambda: kill_one(server, dice), 1.0)
        chaos.start(lambda: os.kill(server.pid, signal.SIGHUP), CHAOS_S / 2.5)
        chaos.start(lambda: deploy_and_roll_back(home), 0.7)
        chaos.start(lambda: set_quota(home, limited, dice), 0.9)
        try:
            # Nobody hears of a revocation while the registry is away: keys first, outages later.
            until_s = time.monotonic() + CHAOS_S / 2
            while time.monotonic() < until_s:
                revoked.one()
            if home.yard.config.database_url:
                postgres = request.getfixturevalue("postgres_server")
                for away in (stopped, refusing):
                    with away(postgres, home.yard.config.registry_url):
                        time.sleep(1.5)
                    time.sleep(0.5)
            else:
                time.sleep(CHAOS_S / 2)
        finally:
            chaos.end()
        set_quota(home, limited, dice, RAISED)
        settle(loads[limited.record.id])
        tallies = {id: load.stop() for id, load in loads.items()}
        stop(server)
    home.command("usage", "copy", MODELYARD_DATABASE_URL=home.yard.config.registry_url)

    assert revoked.count >= 2
    assert revoked.longest_s < DEAD_WITHIN_S
    home.assert_all_copied()
    home.assert_audit_is_whole()
    assert_deployments_are_told(home)
    for key in (free, limited):
        assert_metered(home, key, tallies[key.record.id])
    spent = home.standing(quota)
    assert spent.spent <= RAISED
    assert home.outcomes(limited)[Outcome.OK] <= RAISED
    for tally in (each for pair in tallies.values() for each in pair):
        assert tally.wrong == 0, tally
        # 429 of the limits and 503 of a registry that is away; nothing is ever internal.
        allowed = {"429", "503", "RESOURCE_EXHAUSTED", "UNAVAILABLE"}
        assert set(tally.statuses) <= allowed, tally


def kill_one(server: Server, dice: random.Random) -> None:
    """Of its workers, any."""
    pids = worker_pids(server)
    if len(pids) > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(dice.choice(pids), signal.SIGKILL)


def deploy_and_roll_back(home: Keyed) -> None:
    """Two changes; each version knows the other's callers."""
    home.yard.registry.deploy(MODEL, 2, actor="ann")
    time.sleep(0.3)
    home.yard.registry.rollback(MODEL, actor="bob")


def set_quota(home: Keyed, key: IssuedKey, dice: random.Random, amount: int | None = None) -> None:
    """Another amount, never more than `RAISED`."""
    home.limit("quota", amount or dice.randrange(QUOTA // 2, RAISED), key=key.record.id)


def settle(load: Load) -> None:
    """Until the quota is spent for good: both callers were refused often."""
    before = [sum(tally.statuses.values()) for tally in load.tallies]
    for driven, count in zip((load.http, load.grpc), before, strict=True):
        driven.wait(lambda tally, count=count: sum(tally.statuses.values()) > count + 20)  # type: ignore[misc]


def assert_metered(home: Keyed, key: IssuedKey, tallies: tuple[Tally, Tally]) -> None:
    """Each answer once; what was lost on its way may be there, and nothing else."""
    ends = home.outcomes(key)
    answered = sum(tally.good for tally in tallies)
    lost = sum(tally.lost for tally in tallies)
    assert answered <= ends[Outcome.OK] <= answered + lost, (ends, tallies)
    assert ends.total() <= sum(tally.sent for tally in tallies), (ends, tallies)


def assert_deployments_are_told(home: Keyed) -> None:
    """mlflow#2169: who deployed what. One row for each change of the route, and by whom."""
    rows = home.yard.registry.trail.rows(model=MODEL, limit=10_000)
    by = {action: {row.actor for row in rows if row.action == action} for action in ("rollback",)}
    assert by["rollback"] == {"bob"}
    deployed = [row.actor for row in rows if row.action == "deploy"]
    assert set(deployed) == {"ann", home.yard.actor.name}
    assert deployed.count(home.yard.actor.name) == 1
