import pandas as pd
import pytest

from modelyard.train.algorithms import algorithm
from modelyard.train.features import resolve_task


@pytest.mark.parametrize(
    ("values", "name", "task"),
    [
        (["a", "b", "a", "b"], "knn", "classification"),
        ([True, False, True, False], "knn", "classification"),
        ([0, 1, 0, 1], "knn", "classification"),
        ([0.0, 1.0, 0.0, 1.0], "knn", "classification"),
        ([0.5, 1.0, 0.0, 1.0], "knn", "regression"),
        (list(range(100)), "knn", "regression"),
        ([0, 1, 0, 1], "ridge", "regression"),
        ([0, 1, 2, 3], "logistic_regression", "classification"),
    ],
)
def test_the_task_is_told_by_algorithm_and_target(
    values: list[object], name: str, task: str
) -> None:
    """An algorithm of one task decides; otherwise few whole numbers, text and truth are classes."""
    assert resolve_task("auto", pd.Series(values), algorithm(name)) == task


def test_a_task_that_is_given_stands() -> None:
    """Few whole numbers may well be amounts."""
    assert resolve_task("regression", pd.Series([0, 1]), algorithm("knn")) == "regression"
