import numpy as np
import pandas as pd
import pytest

from modelyard.core.errors import Invalid
from modelyard.train.algorithms import algorithm
from modelyard.train.preparing import feature_names, preparer
from modelyard.train.recipe import Constant, Missing, Prepare

NAN = float("nan")
TREE, LINEAR, BOOSTED = map(algorithm, ("decision_tree", "ridge", "hist_gradient_boosting"))


def frame(**columns: object) -> pd.DataFrame:
    made = pd.DataFrame(columns)
    return made.astype({name: "str" for name in made if made[name].dtype == object})


def prepared(table: pd.DataFrame, missing: Missing = Missing(), **kwargs: object) -> np.ndarray:  # noqa: B008
    prepare = Prepare(**{"scale": "none", **kwargs})  # type: ignore[arg-type]
    head = preparer(table, missing, prepare, LINEAR)
    return table.to_numpy() if head is None else head.fit_transform(table)


def test_nothing_to_do_is_no_transformer() -> None:
    """A tree over numbers takes them as they are."""
    assert preparer(frame(a=[1.0, 2.0], b=[True, False]), Missing(), Prepare(), TREE) is None


@pytest.mark.parametrize(
    ("strategy", "value"),
    [("mean", 3.0), ("median", 2.0), ("most_frequent", 1.0), (Constant(constant=-1), -1.0)],
)
def test_missing_numbers_are_filled_in(strategy: object, value: float) -> None:
    """By each strategy's own value."""
    missing = Missing(numbers=strategy)  # type: ignore[arg-type]
    assert prepared(frame(a=[1.0, 1.0, 3.0, 7.0, NAN]), missing)[4, 0] == value


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("most_frequent", [1.0, 0.0]),
        ("keep", [0.0, 0.0, 1.0]),
        (Constant(constant="none"), [0.0, 0.0, 1.0]),
    ],
)
def test_missing_text_is_filled_in_or_a_category(strategy: object, expected: list[float]) -> None:
    """The most frequent, or one of its own."""
    missing = Missing(text=strategy)  # type: ignore[arg-type]
    assert prepared(frame(s=["a", "a", "b", None]), missing)[3].tolist() == expected


def test_only_columns_with_gaps_are_filled() -> None:
    """Where training saw no gap the pipeline has no imputer, unless the recipe names the column."""
    table = frame(a=[1.0, 2.0], b=[1.0, NAN])
    head = preparer(table, Missing(), Prepare(scale="none"), LINEAR)
    assert [(name, columns) for name, _, columns in head.transformers] == [
        ("number", ["a"]),
        ("number_median", ["b"]),
    ]
    named = Missing(columns={"a": "mean"})
    head = preparer(table, named, Prepare(scale="none"), LINEAR)
    assert head.transformers[0][0] == "number_mean"


def test_an_algorithm_that_takes_gaps_gets_them() -> None:
    """Unless the recipe says otherwise; any other algorithm gets the median."""
    table = frame(a=[1.0, NAN])
    assert preparer(table, Missing(), Prepare(), BOOSTED) is None
    assert preparer(table, Missing(numbers="mean"), Prepare(), BOOSTED) is not None
    with pytest.raises(Invalid, match="takes no missing values"):
        preparer(table, Missing(numbers="keep"), Prepare(), TREE)


@pytest.mark.parametrize(
    ("missing", "column"),
    [
        (Missing(text="mean"), "s"),
        (Missing(columns={"s": "median"}), "s"),
        (Missing(columns={"a": Constant(constant="x")}), "a"),
    ],
)
def test_a_strategy_must_suit_its_column(missing: Missing, column: str) -> None:
    """Text has no mean, and a number is not filled with text."""
    with pytest.raises(Invalid) as caught:
        preparer(frame(a=[1.0, NAN], s=["x", None]), missing, Prepare(), TREE)
    assert caught.value.field == column


@pytest.mark.parametrize(
    ("scale", "expected"),
    [
        ("none", [0.0, 10.0, 20.0]),
        ("standard", [-(1.5**0.5), 0.0, 1.5**0.5]),
        ("minmax", [0.0, 0.5, 1.0]),
        ("robust", [-1.0, 0.0, 1.0]),
    ],
)
def test_numbers_are_scaled(scale: str, expected: list[float]) -> None:
    """Each scaler on three equally spaced numbers."""
    assert prepared(frame(a=[0.0, 10.0, 20.0]), scale=scale)[:, 0] == pytest.approx(expected)


def test_scaling_goes_with_the_algorithm_unless_said() -> None:
    """A line is fitted on standardised numbers, a tree on raw ones."""
    table = frame(a=[0.0, 10.0])
    assert preparer(table, Missing(), Prepare(), LINEAR) is not None
    assert preparer(table, Missing(), Prepare(), TREE) is None


@pytest.mark.parametrize(("encode", "width"), [("onehot", 2), ("ordinal", 1)])
def test_unseen_text_is_ignored_or_refused(encode: str, width: int) -> None:
    """By the policy of the recipe."""
    table = frame(s=["a", "b"])
    lenient = preparer(table, Missing(), Prepare(encode=encode), TREE)  # type: ignore[arg-type]
    assert lenient.fit(table).transform(frame(s=["zebra"])).shape == (1, width)
    strict = preparer(table, Missing(), Prepare(encode=encode, unknown="error"), TREE)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="zebra"):
        strict.fit(table).transform(frame(s=["zebra"]))


def test_a_strict_encoder_knows_the_text_of_every_part() -> None:
    """A category that only the test part has is no unseen one."""
    table = frame(s=["a", "b", None])
    head = preparer(table, Missing(text="keep"), Prepare(unknown="error"), TREE)
    head.fit(table.iloc[[0, 2]])
    assert head.transform(table).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1]]


def test_features_keep_the_names_of_their_columns() -> None:
    """Behind a transformer too, however it names its steps."""
    table = frame(a__b=[1.0, NAN], s=["x", "y"])
    head = preparer(table, Missing(), Prepare(), LINEAR)
    head.fit(table)
    assert feature_names(head, list(table)) == ["a__b", "s_x", "s_y"]
    assert feature_names(None, ["a"]) == ["a"]
