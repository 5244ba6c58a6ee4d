"""What callers may, by all the limits that hold for them."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.core.call import Outcome
from modelyard.core.errors import Exhausted, Unavailable
from modelyard.core.identity import Principal, Role
from modelyard.core.limits import MONEY, Limit, LimitKind, Period
from modelyard.core.usage import Tariff, Unit
from modelyard.registry.tables import quota_leases
from tests.unit.gateway.limits.worlds import SOMEBODY, World

QUOTA = Limit(id="q", kind=LimitKind.QUOTA, amount=100)
RATE = Limit(id="r", kind=LimitKind.RATE, amount=60, burst=10)
CONCURRENCY = Limit(id="c", kind=LimitKind.CONCURRENCY, amount=3)
OTHER = Principal(tenant="other", key="k2", name="other", role=Role.CALLER)

MakeWorld = Callable[..., World]


@pytest.fixture
def make_world(tmp_path: Path) -> Iterator[MakeWorld]:
    worlds: list[World] = []

    def make(*limits: Limit, tariffs: tuple[Tariff, ...] = ()) -> World:
        worlds.append(World(tmp_path / str(len(worlds)), *limits, tariffs=tariffs))
        return worlds[-1]

    yield make
    for world in worlds:
        world.close()


def test_a_quota_lets_through_exactly_its_amount(make_world: MakeWorld) -> None:
    """Whichever worker of whichever home is called."""
    world = make_world(QUOTA)
    workers = [world.start(home) for home in ("one", "one", "two")]
    calls = [workers[number % 3].call() for number in range(140)]
    assert [call.outcome for call in calls].count(Outcome.OK) == 100
    assert all(
        isinstance(call.error, Exhausted) and call.error.code == "quota_exhausted"
        for call in calls
        if call.outcome is not Outcome.OK
    )


@pytest.mark.parametrize("kind", [LimitKind.QUOTA, LimitKind.RATE])
def test_what_a_worker_has_at_hand_is_not_lost_to_others(
    make_world: MakeWorld, kind: LimitKind
) -> None:
    """Who finds nothing waits until others have given back what they hold for calls to come."""
    world = make_world(Limit(id="x", kind=kind, amount=1000))
    one, two = world.start(), world.start()
    first = [one.call() for _ in range(700)]
    assert one.allowance().lines[0].pocket.left > 0
    second = []
    while not second or second[-1].outcome is Outcome.OK:
        second.append(two.call())
    # Of the rate, time brings more meanwhile.
    through = [call.outcome for call in first + second].count(Outcome.OK)
    assert through == 1000 if kind is LimitKind.QUOTA else 1000 <= through < 1010


def test_a_rate_of_what_is_known_only_afterwards_runs_into_debt(make_world: MakeWorld) -> None:
    """A call of a minute takes a whole minute's seconds, though nobody knew before."""
    world = make_world(Limit(id="r", kind=LimitKind.RATE, amount=60, burst=10, unit=Unit.SECOND))
    worker = world.start()
    call = worker.begin()
    call.started_ns = time.monotonic_ns() - 30 * 10**9
    worker.end(call)
    world.pass_time(0.1)
    assert worker.call().outcome is Outcome.REFUSED
    world.pass_time(15)
    assert worker.call().outcome is Outcome.REFUSED
    world.pass_time(10)
    assert worker.begin() in worker.open


def test_a_refusal_says_how_the_limit_stands(make_world: MakeWorld) -> None:
    """Of a quota a day: what it is, that nothing is left, and when the day is over."""
    limit = Limit(id="q", kind=LimitKind.QUOTA, amount=5, period=Period.DAY)
    worker = make_world(limit).start()
    error = [worker.call() for _ in range(6)][-1].error
    assert isinstance(error, Exhausted)
    assert error.headroom is not None
    assert (error.headroom.limit, error.headroom.remaining, error.headroom.unit) == (
        5,
        0,
        "request",
    )
    # It began at noon, and some seconds have passed.
    assert error.retry_after_s == error.headroom.resets_s
    assert error.retry_after_s is not None
    assert 11 * 3600 < error.retry_after_s < 12 * 3600


def test_a_new_period_begins_anew(make_world: MakeWorld) -> None:
    """And a call that began before is charged to the period in which it was let in."""
    world = make_world(Limit(id="q", kind=LimitKind.QUOTA, amount=5, period=Period.HOUR))
    worker = world.start()
    late = worker.begin()
    world.pass_time(1)
    late = worker.open[0]
    assert [worker.call().outcome for _ in range(6)].count(Outcome.OK) == 4
    world.jump_s = 3600
    world.pass_time(1)
    assert [worker.call().outcome for _ in range(6)].count(Outcome.OK) == 5
    worker.end(late)
    world.pass_time(5)
    spent = {lease.period: lease.spent for lease in held(world)}
    assert spent == {"2026-05-03T12": 5, "2026-05-03T13": 5}


def test_a_clock_that_jumps_back_gives_nothing_twice(make_world: MakeWorld) -> None:
    """What was spent in an hour stays spent when that hour comes again."""
    world = make_world(Limit(id="q", kind=LimitKind.QUOTA, amount=5, period=Period.HOUR))
    worker = world.start()
    assert [worker.call().outcome for _ in range(3)] == [Outcome.OK] * 3
    world.jump_s = 7200
    world.pass_time(10)
    assert [worker.call().outcome for _ in range(6)].count(Outcome.OK) == 5
    world.jump_s = 0
    world.pass_time(10)
    assert [worker.call().outcome for _ in range(6)].count(Outcome.OK) == 2


def held(world: World) -> list[Any]:
    """The rows of all leases."""
    with world.database.read() as connection:
        return list(connection.execute(quota_leases.select()).all())


def test_a_failed_call_costs_nothing(make_world: MakeWorld) -> None:
    """What was set aside for it is there for others."""
    world = make_world(QUOTA)
    worker = world.start()
    worker.call()
    for _ in range(50):
        call = worker.begin()
        world.pass_time(0.1)
        worker.end(call, well=False)
    assert [worker.call().outcome for _ in range(110)].count(Outcome.OK) == 99


def test_rows_are_counted_one_by_one(make_world: MakeWorld) -> None:
    """A call that asks for more than is left is refused, and a smaller one is not."""
    worker = make_world(Limit(id="q", kind=LimitKind.QUOTA, amount=100, unit=Unit.ROW)).start()
    assert worker.call(rows=97).outcome is Outcome.OK
    assert worker.call(rows=4).outcome is Outcome.REFUSED
    assert worker.call(rows=3).outcome is Outcome.OK
    assert worker.call(rows=1).outcome is Outcome.REFUSED


def test_money_is_counted_by_the_price(make_world: MakeWorld) -> None:
    """Ten rows at a tenth each leave nothing of one."""
    world = make_world(
        Limit(id="q", kind=LimitKind.QUOTA, amount=1_000_000_000, unit=MONEY),
        tariffs=(Tariff(models="ch*", unit=Unit.ROW, nano=100_000_000),),
    )
    worker = world.start()
    assert worker.call(rows=6).outcome is Outcome.OK
    assert worker.call(rows=5).outcome is Outcome.REFUSED
    assert worker.call(rows=4).outcome is Outcome.OK
    assert worker.call(rows=1).outcome is Outcome.REFUSED


def test_what_is_known_only_afterwards_becomes_debt(make_world: MakeWorld) -> None:
    """A call that took longer than is left of the quota's seconds blocks those that come."""
    world = make_world(Limit(id="q", kind=LimitKind.QUOTA, amount=10, unit=Unit.SECOND))
    worker = world.start()
    call = worker.begin()
    world.pass_time(0.1)
    call.started_ns = time.monotonic_ns() - 12 * 10**9
    worker.end(call)
    assert worker.call().outcome is Outcome.REFUSED
    world.pass_time(5)
    (lease,) = held(world)
    assert 12_000_000 <= lease.spent < 13_000_000
    assert lease.granted <= 10_000_000


def test_a_call_passes_under_all_limits_or_takes_from_none(make_world: MakeWorld) -> None:
    """What one limit refuses is not charged to another."""
    world = make_world(QUOTA, CONCURRENCY)
    worker = world.start()
    worker.call()
    three = [worker.begin() for _ in range(3)]
    assert [worker.begin().outcome for _ in range(20)] == [Outcome.REFUSED] * 20
    for call in three:
        worker.end(call)
    assert [worker.call().outcome for _ in range(110)].count(Outcome.OK) == 96


def test_limits_hold_for_those_they_fit(make_world: MakeWorld) -> None:
    """Another tenant, key or model has its own, or none."""
    world = make_world(
        Limit(id="q", kind=LimitKind.QUOTA, amount=2, tenant="acme", per=("key",), models="ch*")
    )
    worker = world.start()
    assert worker.allowances.of(OTHER, "churn") is None
    assert worker.allowances.of(SOMEBODY, "iris") is None
    assert [worker.call().outcome for _ in range(3)].count(Outcome.OK) == 2
    twin = Principal(tenant="acme", key="k3", name="twin", role=Role.CALLER)
    call = worker.begin(allowance=worker.allowance(twin))
    world.pass_time(0.1)
    assert call in worker.open


def test_a_rate_is_one_for_all_workers_of_a_home(make_world: MakeWorld) -> None:
    """A burst, and then as many as time brings."""
    world = make_world(RATE)
    workers = [world.start() for _ in range(4)]
    calls = [workers[number % 4].call() for number in range(40)]
    # A second brings one.
    assert 10 <= [call.outcome for call in calls].count(Outcome.OK) <= 12
    error = calls[-1].error
    assert isinstance(error, Exhausted)
    assert error.code == "rate_exceeded"
    assert error.retry_after_s is not None
    assert 0 < error.retry_after_s <= 1
    world.pass_time(5)
    assert [workers[0].call().outcome for _ in range(20)].count(Outcome.OK) in (5, 6)


def test_a_call_larger_than_a_burst_is_told_so(make_world: MakeWorld) -> None:
    """It would wait for ever."""
    limit = Limit(id="r", kind=LimitKind.RATE, amount=60, burst=10, unit=Unit.ROW)
    error = make_world(limit).start().call(rows=11).error
    assert isinstance(error, Exhausted)
    assert error.retry_after_s is None
    assert "smaller" in error.message


def test_a_rate_is_divided_among_nodes(make_world: MakeWorld) -> None:
    """Two homes let through a half each."""
    world = make_world(RATE)
    one, two = world.start("one"), world.start("two")
    world.pass_time(30)
    assert [one.call().outcome for _ in range(20)].count(Outcome.OK) == 5
    assert [two.call().outcome for _ in range(20)].count(Outcome.OK) == 5


def test_concurrency_is_given_back(make_world: MakeWorld) -> None:
    """At a call's end, and when its worker dies."""
    world = make_world(CONCURRENCY)
    one, two = world.start(), world.start()
    first, _, _ = one.begin(), one.begin(), two.begin()
    assert two.begin().outcome is Outcome.REFUSED
    one.end(first)
    assert two.begin() in two.open
    assert two.begin().outcome is Outcome.REFUSED
    one.kill()
    world.pass_time(0.1)
    kept = two.begin()
    world.pass_time(0.1)
    assert kept in two.open
    assert two.begin().outcome is Outcome.REFUSED


def test_without_a_registry_what_is_leased_is_spent(make_world: MakeWorld) -> None:
    """Then callers hear that nobody can say; and once it is back, all is exact."""
    world = make_world(QUOTA)
    worker = world.start()
    worker.call()
    world.registry.is_down = True
    calls = [worker.call() for _ in range(120)]
    went_well = [call.outcome for call in calls].count(Outcome.OK)
    assert 0 < went_well < 99
    assert isinstance(calls[-1].error, Unavailable)
    assert calls[-1].error.code == "quota_unavailable"
    world.registry.is_down = False
    world.pass_time(2)
    assert [worker.call().outcome for _ in range(120)].count(Outcome.OK) == 99 - went_well


def test_a_limit_that_is_changed_holds_at_once(make_world: MakeWorld) -> None:
    """Raised, it lets more through; lowered below what is spent, none; what was counted stays."""
    world = make_world(QUOTA)
    worker = world.start()
    assert [worker.call().outcome for _ in range(60)] == [Outcome.OK] * 60
    world.follow(Limit(id="q", kind=LimitKind.QUOTA, amount=50))
    assert worker.call().outcome is Outcome.REFUSED
    world.follow(Limit(id="q", kind=LimitKind.QUOTA, amount=62))
    assert [worker.call().outcome for _ in range(5)].count(Outcome.OK) == 2


def test_a_limit_that_is_removed_holds_no_more(make_world: MakeWorld) -> None:
    """And its leases are given back."""
    world = make_world(QUOTA)
    worker = world.start()
    worker.call()
    world.follow()
    assert worker.allowances.of(SOMEBODY, "churn") is None
    world.pass_time(5)
    (lease,) = held(world)
    assert (lease.granted, lease.spent) == (1, 1)


def test_who_ends_well_gives_its_lease_back(make_world: MakeWorld) -> None:
    """The last worker of a home leaves nothing leased behind."""
    world = make_world(QUOTA)
    one, two = world.start("one"), world.start("one")
    one.call()
    two.call()
    one.stop()
    (lease,) = held(world)
    assert lease.granted > lease.spent
    two.stop()
    (lease,) = held(world)
    assert (lease.granted, lease.spent) == (2, 2)
