"""A hundred swaps and a hundred rollbacks under load: nothing is lost, nothing is wrong."""

from modelyard.core.names import Reference
from tests.e2e.promises.stage import Load, Stage

TIMES = 100


def test_a_hundred_swaps_cost_nothing(stage: Stage, load: Load) -> None:
    """Each swap is in force in every worker before the next, and every answer is a version's."""
    for turn in range(TIMES):
        stage.deploy("sum", 2 - turn % 2)
    assert_nothing_was_lost(load)


def test_a_hundred_rollbacks_cost_nothing(stage: Stage, load: Load) -> None:
    """A hundred steps forward, and every one of them taken back."""
    for turn in range(TIMES):
        stage.yard.deploy(Reference("sum", version=2 - turn % 2))
    for _ in range(TIMES):
        stage.rollback("sum")
    assert_nothing_was_lost(load)


def assert_nothing_was_lost(load: Load) -> None:
    load.more(50)
    for tally in load.stop():
        assert (tally.bad, tally.unconnected) == (0, 0), tally
        assert min(tally.answered["1"], tally.answered["2"]) > 100, tally
