"""Cuts the rows into train, validation and test, by one seed."""

import numpy as np
import pandas as pd
from sklearn.model_selection import train_test_split

from modelyard.core.errors import Invalid
from modelyard.train.algorithms import Task
from modelyard.train.hints import counted
from modelyard.train.recipe import Part, Split


def split_rows(
    target: pd.Series, split: Split, task: Task
) -> tuple[dict[Part, pd.Index], list[str]]:
    """The index of each part, and a note where the classes could not be kept in proportion.

    Raises `Invalid` when a part would get no rows, or a class is too small to stratify by.
    """
    sizes = _sizes(len(target), split)
    by_class, notes = _stratified(target, split, task, sizes)
    try:
        return _cut(target, split, sizes, by_class), notes
    except ValueError as error:
        # The first cut may leave a class too small for the second.
        if not by_class or split.stratify:
            raise Invalid("cannot_stratify", f"the split failed: {error}", field="split") from None
        return _cut(target, split, sizes, by_class=False), ["split without stratifying"]


def _cut(
    target: pd.Series, split: Split, sizes: dict[Part, int], by_class: bool
) -> dict[Part, pd.Index]:
    rest, test = train_test_split(
        np.arange(len(target)),
        test_size=sizes["test"],
        random_state=split.seed,
        stratify=target if by_class else None,
    )
    parts: dict[Part, pd.Index] = {}
    if split.validation:
        rest, validation = train_test_split(
            rest,
            test_size=sizes["validation"],
            random_state=split.seed,
            stratify=target.iloc[rest] if by_class else None,
        )
        parts["validation"] = target.index[np.sort(validation)]
    return {"train": target.index[np.sort(rest)], **parts, "test": target.index[np.sort(test)]}


def _sizes(rows: int, split: Split) -> dict[Part, int]:
    sizes: dict[Part, int] = {"test": max(1, round(rows * split.test))}
    if split.validation:
        sizes["validation"] = max(1, round(rows * split.validation))
    sizes["train"] = rows - sum(sizes.values())
    if sizes["train"] < 2:
        raise Invalid(
            "too_few_rows",
            f"{counted(rows, 'row')} cannot be split into {', '.join(split.parts)}; "
            "two must be left for train",
            field="split",
        )
    return sizes


def _stratified(
    target: pd.Series, split: Split, task: Task, sizes: dict[Part, int]
) -> tuple[bool, list[str]]:
    if task == "regression":
        if split.stratify:
            raise Invalid(
                "cannot_stratify",
                "'split.stratify' is for classification; a regression has no classes",
                field="split.stratify",
            )
        return False, []
    if split.stratify is False:
        return False, []
    reason = _obstacle(target, split, sizes)
    if reason is None:
        return True, []
    if split.stratify:
        raise Invalid(
            "cannot_stratify",
            f"{reason}; find more such rows, drop the class, or set 'split.stratify' to false",
            field="split.stratify",
        )
    return False, [f"{reason}: split without stratifying"]


def _obstacle(target: pd.Series, split: Split, sizes: dict[Part, int]) -> str | None:
    counts = target.value_counts()
    needed = len(split.parts)
    if counts.min() < needed:
        rare = str(counts.idxmin())
        return (
            f"class '{rare:.60}' has {counted(int(counts.min()), 'row')}, and stratifying "
            f"needs {needed}"
        )
    smallest = min(sizes.values())
    if smallest < len(counts):
        return f"the smallest part has {counted(smallest, 'row')} for {len(counts)} classes"
    return None
