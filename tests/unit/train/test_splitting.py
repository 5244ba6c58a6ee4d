import pandas as pd
import pytest

from modelyard.core.errors import Invalid
from modelyard.train.recipe import Split
from modelyard.train.splitting import split_rows

CLASSES = pd.Series(["a"] * 60 + ["b"] * 40, index=range(7, 107))


def test_parts_are_whole_and_apart() -> None:
    """Every row is in exactly one part, and the fractions hold."""
    parts, _ = split_rows(CLASSES, Split(validation=0.2, test=0.1, seed=1), "classification")
    assert {part: len(index) for part, index in parts.items()} == {
        "train": 70,
        "validation": 20,
        "test": 10,
    }
    assert sorted(position for index in parts.values() for position in index) == list(CLASSES.index)


def test_the_seed_decides() -> None:
    """The same seed the same rows, another seed others."""
    one, again, other = (
        split_rows(CLASSES, Split(seed=seed), "classification")[0]["test"].tolist()
        for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_classes_keep_their_proportion() -> None:
    """Six of ten rows are of class 'a', in every part."""
    parts, notes = split_rows(CLASSES, Split(validation=0.2, test=0.1), "classification")
    assert not notes
    for index in parts.values():
        assert (CLASSES.loc[index] == "a").mean() == pytest.approx(0.6)


def test_without_validation_there_are_two_parts() -> None:
    """A fraction of 0 makes no part."""
    parts, _ = split_rows(CLASSES, Split(validation=0.0), "classification")
    assert list(parts) == ["train", "test"]


def test_a_class_of_one_row_is_no_obstacle_unless_stratifying_was_asked_for() -> None:
    """Unasked it is noted; asked for it is an error that names the class."""
    target = pd.Series(["a"] * 30 + ["b"] * 30 + ["rare"])
    _, notes = split_rows(target, Split(), "classification")
    assert notes == ["class 'rare' has 1 row, and stratifying needs 3: split without stratifying"]
    with pytest.raises(Invalid, match="class 'rare' has 1 row"):
        split_rows(target, Split(stratify=True), "classification")
    assert split_rows(target, Split(stratify=False), "classification")[1] == []


def test_a_class_too_small_for_the_second_cut_is_no_crash() -> None:
    """Three rows of a class, most of them gone to test."""
    target = pd.Series(["a"] * 30 + ["b"] * 3)
    parts, notes = split_rows(target, Split(validation=0.1, test=0.7), "classification")
    assert sum(map(len, parts.values())) == 33
    assert notes == ["split without stratifying"]
    with pytest.raises(Invalid):
        split_rows(target, Split(validation=0.1, test=0.7, stratify=True), "classification")


def test_a_regression_has_no_classes() -> None:
    """Asking to stratify one is a mistake."""
    with pytest.raises(Invalid, match="classification"):
        split_rows(pd.Series([1.0, 2.0, 3.0, 4.0]), Split(stratify=True), "regression")


def test_too_few_rows_cannot_be_split() -> None:
    """Two rows must be left for train."""
    with pytest.raises(Invalid, match="3 rows cannot be split"):
        split_rows(pd.Series([1.0, 2.0, 3.0]), Split(), "regression")
