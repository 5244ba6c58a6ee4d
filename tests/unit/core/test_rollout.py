"""How a roll-out is written down: steps, durations, guards, and figures that add up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import Invalid
from modelyard.core.rollout import (
    Figures,
    Guard,
    Plan,
    parse_duration_s,
    parse_guards,
    parse_percent,
    parse_steps,
)


def test_guards_are_read() -> None:
    """Shares, multiples and times, with or without spaces."""
    guards = parse_guards("error_rate<=0.1%, error_rate <= 2x, p99<=20ms,p50<=1.2x,agreement>=99%")
    assert [(guard.measure, guard.bound, guard.unit) for guard in guards] == [
        ("error_rate", 0.001, "%"),
        ("error_rate", 2.0, "x"),
        ("p99", 20e6, "ns"),
        ("p50", 1.2, "x"),
        ("agreement", 0.99, "%"),
    ]
    assert [guard.is_relative for guard in guards] == [False, True, False, True, False]
    assert [guard.compares for guard in guards] == [False] * 4 + [True]
    assert parse_guards("") == ()


@pytest.mark.parametrize(
    "text",
    [
        "p99",
        "p99<20ms",
        "p99>=20ms",
        "p99<=20",
        "p99<=20%",
        "p98<=20ms",
        "p99<=0x",
        "error_rate<=5ms",
        "error_rate<=0.1",
        "error_rate>=1%",
        "error_rate<=101%",
        "agreement<=99%",
        "agreement>=2x",
        "agreement>=101%",
        "p99<=-1ms",
        "latency<=1ms",
        "error_rate<=1% p99<=1ms",
    ],
)
def test_what_is_no_guard_is_refused(text: str) -> None:
    """The message shows the text and a right one."""
    with pytest.raises(Invalid, match="is no guard: ") as caught:
        Guard.parse(text)
    assert caught.value.field == "guard"


def test_steps_shares_and_durations_are_read() -> None:
    """As people write them."""
    assert parse_steps("1%, 10%,50,100%") == (1.0, 10.0, 50.0, 100.0)
    assert [parse_duration_s(text, "every") for text in ("500ms", "60s", "1.5m", "2h")] == [
        0.5,
        60.0,
        90.0,
        7200.0,
    ]
    with pytest.raises(Invalid):
        parse_percent("ten", "canary")
    with pytest.raises(Invalid):
        parse_duration_s("60", "every")


@pytest.mark.parametrize("steps", ["100%", "10%", "10%,50%", "50%,10%,100%", "0%,100%", "10%,200%"])
def test_steps_grow_to_all_calls(steps: str) -> None:
    """Anything else is refused."""
    with pytest.raises(Invalid, match="grow from above 0% to 100%"):
        Plan(steps=parse_steps(steps))


_counts = st.integers(0, 10**9)
_figures = st.builds(
    Figures,
    calls=_counts,
    failures=_counts,
    compared=_counts,
    agreed=_counts,
    labels_agreed=_counts,
    buckets=st.dictionaries(st.integers(0, 639), st.integers(1, 10**9), max_size=5),
)


@given(left=_figures, right=_figures)
def test_what_is_added_can_be_taken_away(left: Figures, right: Figures) -> None:
    """A sum less one part is the other: so windows are differences of sums."""
    assert left + right - left == right
    assert left + right == right + left
