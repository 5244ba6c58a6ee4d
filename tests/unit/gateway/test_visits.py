"""Logins and refusals are noted in memory, bounded, and summed."""

import pytest

from modelyard.core.identity import Principal, Role
from modelyard.gateway.visits import Login, Refusals, Visits

_ADMIN = Principal(tenant="acme", key="k1", name="root", role=Role.ADMIN)


class Clock:
    """Tells the time that it was set to."""

    def __init__(self) -> None:
        self.now = 6_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def visits(clock: Clock) -> Visits:
    """No visit yet."""
    return Visits(clock=clock)


def test_an_administrator_is_noted_once_an_hour_and_source(visits: Visits, clock: Clock) -> None:
    """However often the key is used; from another address it is another login."""
    for address in ("10.0.0.1", "10.0.0.1", "10.0.0.2"):
        visits.enter(_ADMIN, address)
    found = visits.take()
    assert [each.actor.source for each in found if isinstance(each, Login)] == [
        "10.0.0.1",
        "10.0.0.2",
    ]
    clock.now += 3599.0
    visits.enter(_ADMIN, "10.0.0.1")
    assert visits.take() == []
    clock.now += 1.0
    visits.enter(_ADMIN, "10.0.0.1")
    assert len(visits.take()) == 1


def test_other_roles_do_not_log_in(visits: Visits) -> None:
    """Their calls are metered, and their changes audited."""
    visits.enter(Principal(tenant="acme", key="k2", name="ci", role=Role.DEPLOYER), "10.0.0.1")
    assert visits.take(is_last=True) == []


def test_refusals_are_summed_by_source_and_minute(visits: Visits, clock: Clock) -> None:
    """And told when the minute is over, or at the end."""
    for address in ("10.0.0.1",) * 5 + ("2001:db8::1", "2001:db8::2"):
        visits.refuse(address)
    assert visits.take() == []
    clock.now += 60.0
    visits.refuse("10.0.0.1")
    told = {each.source: each.count for each in visits.take() if isinstance(each, Refusals)}
    assert told == {"10.0.0.1": 5, "2001:db8::/64": 2}
    [last] = visits.take(is_last=True)
    assert isinstance(last, Refusals)
    assert (last.count, last.at.timestamp()) == (1, 6_060.0)


def test_a_flood_from_everywhere_is_bounded(visits: Visits) -> None:
    """Sources that there is no room for are told together, and none is lost."""
    for number in range(5_000):
        visits.refuse(f"10.0.{number // 250}.{number % 250}")
    found = [each for each in visits.take(is_last=True) if isinstance(each, Refusals)]
    assert len(found) <= 1_001
    assert sum(each.count for each in found) == 5_000
    assert found[-1].source == "others"
