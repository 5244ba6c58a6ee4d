"""What a soak makes of its figures, and how its load is paced."""

import pytest

from benchmarks.load import write_script
from benchmarks.soak import rise


def test_a_line_that_rises_is_seen_through_noise() -> None:
    """From 100 to 110 is a tenth of the mean, whatever single values do; flat is nothing."""
    assert rise([100.0, 110.0]) == pytest.approx(10 / 105)
    assert rise([100.0 + n / 10 + (-1) ** n for n in range(100)]) == pytest.approx(0.095, abs=0.005)
    assert rise([5.0] * 10) == pytest.approx(0.0)


def test_connections_pause_only_where_they_are_told_to() -> None:
    """The script of a paced load has wrk's `delay`, twice the mean at most; others have none."""
    asked = [("/", b"")]
    assert "math.random(0, 20)" in write_script({}, asked, 10)
    assert "delay" not in write_script({}, asked)
