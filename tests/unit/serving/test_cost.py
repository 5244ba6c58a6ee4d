import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.serving.cost import BatchCost


@given(fixed=st.floats(0, 1000), slope=st.floats(0.01, 100))
def test_a_straight_line_is_found(fixed: float, slope: float) -> None:
    """Costs that lie on a line are estimated as that line."""
    cost = BatchCost()
    for rows in (1, 2, 8, 32, 128):
        cost.observe(rows, fixed + slope * rows)
    assert cost.estimate_us(64) == pytest.approx(fixed + slope * 64, rel=1e-3)


def test_rows_within_a_budget_cost_no_more_than_it() -> None:
    """The largest batch for a budget is estimated within it, and the next larger one is not."""
    cost = BatchCost()
    for rows in (1, 10, 100):
        cost.observe(rows, 10 + 2 * rows)
    rows = cost.rows_within(300)
    assert cost.estimate_us(rows) <= 300 < cost.estimate_us(rows + 1)


def test_a_dear_batch_fits_no_budget() -> None:
    """A model whose single row is over the budget gets no rows in line."""
    cost = BatchCost()
    cost.observe(1, 5000)
    assert cost.rows_within(300) == 0


def test_a_model_that_becomes_slow_is_noticed() -> None:
    """The estimate forgets: thirty slow batches outweigh a thousand fast ones."""
    cost = BatchCost()
    for _ in range(1000):
        cost.observe(1, 10)
    for _ in range(60):
        cost.observe(1, 5000)
    assert cost.rows_within(300) == 0


def test_one_interrupted_batch_changes_little() -> None:
    """A time slice lost to somebody else does not send a cheap model to the lanes."""
    cost = BatchCost()
    for _ in range(30):
        cost.observe(32, 60)
    before = cost.rows_within(300)
    cost.observe(32, 50_000)
    assert cost.rows_within(300) > before // 2


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0.1, 1e6)), min_size=1))
def test_an_estimate_is_never_negative(observed: list[tuple[int, float]]) -> None:
    """However wild the observations, a batch is never expected to take less than no time."""
    cost = BatchCost()
    for rows, us in observed:
        cost.observe(rows, us)
    assert all(value >= 0 for value in cost.line())


def test_one_batch_that_blocks_is_enough() -> None:
    """A cheap model that hangs once does not get the chance to hold the loop a second time."""
    cost = BatchCost()
    for _ in range(1000):
        cost.observe(1, 10)
    cost.observe(1, 1_000_000)
    assert cost.rows_within(300) == 0
