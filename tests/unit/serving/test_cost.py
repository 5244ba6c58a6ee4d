from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.serving.cost import BatchCost, BatchSizes, LaneCost, QuickestRun


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


def settled_rows(row_us: Callable[[int], float], budget_us: float = 50_000.0) -> int:
    """The size that measuring leads to, where a batch of n takes `n * row_us(n)`."""
    sizes = BatchSizes()
    for _ in range(40):
        rows = sizes.best_rows(budget_us)
        sizes.observe(rows, rows * row_us(rows))
    return sizes.best_rows(budget_us)


def test_a_model_that_gains_nothing_runs_one_row_at_a_time() -> None:
    """An encoder whose rows cost the same in any batch is not made to wait for company."""
    assert settled_rows(lambda rows: 15_000.0) == 1


def test_a_model_that_gains_runs_large_batches() -> None:
    """Where a batch has a large fixed cost, the size grows until a row costs the least."""
    assert settled_rows(lambda rows: 100.0 + 6_000.0 / rows) >= 64


def test_a_model_that_loses_in_large_batches_stays_small() -> None:
    """Past the size that fits its caches a row costs more again: the best size lies before."""
    assert settled_rows(lambda rows: 50.0 + 400.0 / rows + 4.0 * rows) == 8


def test_no_batch_is_longer_than_the_budget() -> None:
    """However much a large batch would bring, nobody waits for it longer than that."""
    rows = settled_rows(lambda rows: 1_000.0 + 20_000.0 / rows)
    assert rows * (1_000.0 + 20_000.0 / rows) <= 50_000.0
    assert rows >= 16


def test_a_model_over_the_budget_may_still_double_what_one_row_takes() -> None:
    """A slow model with a fixed cost is not condemned to single rows."""
    assert settled_rows(lambda rows: 1_000.0 + 100_000.0 / rows) >= 64


def test_the_size_is_found_anew_when_the_model_changes() -> None:
    """A size that pays no more is given up, and one that pays again is found again."""
    sizes = BatchSizes()

    def run(row_us: Callable[[int], float], batches: int) -> int:
        for _ in range(batches):
            rows = sizes.best_rows(50_000.0)
            sizes.observe(rows, rows * row_us(rows))
        return sizes.best_rows(50_000.0)

    assert run(lambda rows: 10.0 + 1_000.0 / rows, 50) >= 32
    assert run(lambda rows: 2_000.0, 100) == 1
    assert run(lambda rows: 10.0 + 1_000.0 / rows, 2_000) >= 32


def test_a_wrong_quickest_run_does_not_keep_itself_alive() -> None:
    """Each call turned away for it lowers it: calls that could be answered are soon run again."""
    quickest = QuickestRun()
    quickest.observe(5_000_000_000)
    turned_away = 0
    while quickest.ns > 1_000_000:
        quickest.doubt()
        turned_away += 1
    assert turned_away < 80
    for _ in range(20):
        quickest.observe(1_000_000)
    quickest.observe(5_000_000_000)
    assert quickest.ns < 2_000_000


def test_a_wait_that_is_there_each_time_is_a_cost() -> None:
    """A device's time counts in full, for large batches as for small ones."""
    cost = LaneCost()
    for took_ns in (4_000_000, 5_000_000, 80_000_000):
        assert cost.of(took_ns, 100_000, took_ns - 100_000) == pytest.approx(took_ns / 1000)


def test_a_wait_that_is_sometimes_short_is_none() -> None:
    """A cheap model on a busy machine: once in a while it got its core at once, and that tells."""
    cost = LaneCost()
    for _ in range(5):
        cost.of(2_000_000, 200_000, 1_800_000)
    cost.of(210_000, 200_000, 10_000)
    assert cost.of(2_000_000, 200_000, 1_800_000) < 400
