"""Failed credentials by source."""

import pytest

from modelyard.core.errors import Exhausted
from modelyard.gateway.guesses import Guesses, source_of


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_past_the_bound_a_source_is_told_to_wait() -> None:
    """Until its minute is over, and no other source is."""
    clock = Clock()
    guesses = Guesses(most=3, clock=clock)
    for _ in range(3):
        guesses.note("10.0.0.1")
    clock.now += 20
    with pytest.raises(Exhausted) as caught:
        guesses.note("10.0.0.1")
    assert caught.value.code == "too_many_failures"
    assert caught.value.retry_after_s == pytest.approx(40)
    guesses.note("10.0.0.2")
    clock.now += 41
    guesses.note("10.0.0.1")


def test_sources_are_bounded() -> None:
    """Of more than are kept the oldest is forgotten, and memory does not grow."""
    guesses = Guesses(most=1, most_sources=100)
    for number in range(1000):
        guesses.note(f"10.0.{number >> 8}.{number & 255}")
    assert len(guesses._failures) == 100
    with pytest.raises(Exhausted):
        guesses.note("10.0.3.231")
    guesses.note("10.0.0.0")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:10.0.0.1", "10.0.0.1", True),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.2", False),
        ("10.0.0.1", "10.0.0.2", False),
        ("unix", "unix", True),
        ("not:an:address", "not:an:address", True),
    ],
)
def test_a_source_is_an_address_or_a_subscribers_network(one: str, other: str, same: bool) -> None:
    """Of IPv6 its /64: whoever has one address has them all."""
    assert (source_of(one) == source_of(other)) is same
