import time
from typing import Any

import pytest

from modelyard.api.parameters import HIGH, LOW, NORMAL, read_schedule
from modelyard.core.errors import Invalid


@pytest.mark.parametrize(
    "parameters", [None, {}, {"binary_data_output": True}, {"binary_data_size": 3}]
)
def test_most_requests_ask_for_no_schedule(parameters: dict[str, Any] | None) -> None:
    """How tensors travel is not the scheduler's business."""
    assert read_schedule(parameters) is None


@pytest.mark.parametrize(
    ("said", "meant"), [(0, NORMAL), (1, HIGH), (2, NORMAL), (3, LOW), (2**40, LOW)]
)
def test_priorities_are_tritons(said: int, meant: int) -> None:
    """One is the highest, larger is lower, and zero is as if nothing was said."""
    schedule = read_schedule({"priority": said})
    assert schedule is not None
    assert schedule.priority == meant


def test_a_timeout_is_in_microseconds() -> None:
    """It ends so long after it was read; zero is none."""
    before = time.monotonic_ns()
    schedule = read_schedule({"timeout": 1_000_000})
    assert schedule is not None
    assert schedule.deadline_ns is not None
    assert 0 <= schedule.deadline_ns - before - 10**9 < 10**9
    none = read_schedule({"timeout": 0})
    assert none is not None
    assert none.deadline_ns is None
    long = read_schedule({"timeout": 2**63})
    assert long is not None
    assert long.deadline_ns is not None


def test_what_is_unknown_is_kept_for_the_model() -> None:
    """Parameters of other names are handed on as they came."""
    schedule = read_schedule({"temperature": 0.5, "timeout": 9, "binary_data_output": True})
    assert schedule is not None
    assert schedule.parameters == {"temperature": 0.5}


@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        ({"sequence_id": 3}, "sequence_id"),
        ({"sequence_id": "s"}, "sequence_id"),
        ({"sequence_start": True}, "sequence_start"),
        ({"timeout": -1}, "timeout"),
        ({"timeout": 1.5}, "timeout"),
        ({"priority": "high"}, "priority"),
        ({"priority": True}, "priority"),
    ],
)
def test_what_cannot_be_kept_is_refused_by_name(parameters: dict[str, Any], field: str) -> None:
    """Sequences need a state that no model here has; numbers must be numbers."""
    with pytest.raises(Invalid) as caught:
        read_schedule(parameters)
    assert caught.value.field == field


def test_a_sequence_of_nothing_is_no_sequence() -> None:
    """Triton's clients send a sequence id of 0 where there is none."""
    assert read_schedule({"sequence_id": 0, "sequence_start": False, "priority": 0}) is not None


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": [value]}
    return value


@pytest.mark.parametrize("value", [2**64, -(2**63) - 1, [1, 2**64], _nested(17), _nested(400)])
def test_what_no_other_process_could_be_told_is_refused(value: Any) -> None:
    """A number of more than 64 bits, or what is nested too deeply, harms its own request alone."""
    with pytest.raises(Invalid) as refused:
        read_schedule({"plain": "text", "much": value})
    assert refused.value.field == "much"


@pytest.mark.parametrize(
    "value", [2**64 - 1, -(2**63), True, None, 1.5, "ü", {"a": [1]}, _nested(16)]
)
def test_plain_parameters_are_handed_on(value: Any) -> None:
    """Text, numbers, flags, and lists and objects of them."""
    schedule = read_schedule({"more": value})
    assert schedule is not None
    assert schedule.parameters == {"more": value}
