import numpy as np
import pandas as pd
import pytest

from modelyard.bundle.manifest import Dataset
from modelyard.core.errors import Invalid
from modelyard.train.cleaning import clean_rows, tame_outliers
from modelyard.train.recipe import Clean, Missing, Outliers
from modelyard.train.table import Table, row_numbers

NAN = float("nan")


def table(**columns: list[object]) -> Table:
    frame = pd.DataFrame(columns)
    return Table(frame, Dataset("t", "t.csv", "0" * 64, len(frame), len(columns)), row_numbers)


def test_rows_without_a_target_go() -> None:
    """Nothing can be learnt from them; it is said how many."""
    cleaned, notes = clean_rows(table(a=[1, 2, 3], y=["u", None, "v"]), Clean(), ["a"], "y")
    assert cleaned.frame.index.tolist() == [0, 2]
    assert notes == ["1 row without a value in 'y': dropped"]


def test_a_target_without_values_is_an_error() -> None:
    """Whatever the other columns hold."""
    with pytest.raises(Invalid, match="no values at all") as caught:
        clean_rows(table(a=[1, 2], y=[None, None]), Clean(), ["a"], "y")
    assert caught.value.field == "y"


def test_gaps_are_dropped_only_where_the_recipe_says_so() -> None:
    """By column; other gaps stay for the pipeline to fill."""
    clean = Clean(missing=Missing(columns={"a": "drop"}))
    cleaned, notes = clean_rows(
        table(a=[1.0, NAN, 3.0], b=[NAN, 1.0, 2.0], y=[1, 2, 3]), clean, ["a", "b"], "y"
    )
    assert cleaned.frame.index.tolist() == [0, 2]
    assert notes == ["1 row without a value in 'a': dropped"]


def test_duplicates_go_by_features_and_target() -> None:
    """The first of them stays; a column that is no feature makes no difference."""
    rows = table(a=[1, 1, 1], y=[0, 0, 1], id=[1, 2, 3])
    cleaned, _ = clean_rows(rows, Clean(duplicates="drop"), ["a"], "y")
    assert cleaned.frame.index.tolist() == [0, 2]
    assert len(clean_rows(rows, Clean(), ["a"], "y")[0].frame) == 3


def test_cleaning_everything_away_is_an_error() -> None:
    """It says what took the rows."""
    clean = Clean(missing=Missing(numbers="drop"))
    with pytest.raises(Invalid, match="2 rows without a value in 'a'"):
        clean_rows(table(a=[NAN, NAN], y=[1, 2]), clean, ["a"], "y")


@pytest.mark.parametrize(
    ("rule", "factor", "low", "high"),
    [
        ("iqr", 1.5, 25 - 75, 75 + 75),
        ("iqr", None, 25 - 75, 75 + 75),
        ("percentile", 10, 10, 90),
        ("zscore", 2, 50 - 2 * 850**0.5, 50 + 2 * 850**0.5),
    ],
)
def test_each_rule_has_its_textbook_limits(
    rule: str, factor: float | None, low: float, high: float
) -> None:
    """Of the whole numbers 0 to 100, whose variance is 850."""
    frame = pd.DataFrame({"a": np.arange(101.0)})
    outliers = Outliers(rule=rule, factor=factor, action="clip")  # type: ignore[arg-type]
    clipped, _ = tame_outliers(frame, outliers, ["a"])
    assert clipped["a"].min() == pytest.approx(max(0.0, low))
    assert clipped["a"].max() == pytest.approx(min(100.0, high))


def test_outliers_are_dropped_or_clipped() -> None:
    """Only in the columns named, and gaps are no outliers."""
    frame = pd.DataFrame({"a": [*np.arange(20.0), 1e6, NAN], "b": [*[0.0] * 21, 9e9]})
    dropped, notes = tame_outliers(frame, Outliers(rule="iqr", columns=("a",)), ["a", "b"])
    assert dropped.index.tolist() == [*range(20), 21]
    assert notes == ["1 row of the train part had outliers by iqr: dropped"]
    clipped, _ = tame_outliers(
        frame, Outliers(rule="iqr", action="clip", columns=("a",)), ["a", "b"]
    )
    assert len(clipped) == 22
    assert clipped["a"].max() < 100
    assert frame["a"].max() == 1e6
