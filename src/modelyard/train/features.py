"""Which columns a model is made of, what it shall tell, and whether they can be learnt from."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd

from modelyard.core.errors import Invalid
from modelyard.train.algorithms import Algorithm, Task
from modelyard.train.columns import is_number, is_text
from modelyard.train.hints import did_you_mean
from modelyard.train.recipe import Recipe
from modelyard.train.table import Table

_FEW_VALUES = 20


def choose_features(table: Table, recipe: Recipe) -> list[str]:
    """The feature columns in the table's order (or the recipe's); raises `Invalid`."""
    columns = [str(name) for name in table.frame.columns]
    if recipe.target not in columns:
        hint = did_you_mean(recipe.target, columns)
        if len(columns) == 1:
            hint = f"; it has one column, '{columns[0]:.80}': is 'source.separator' right?"
        raise Invalid(
            "no_target", f"the table has no target column '{recipe.target}'{hint}", field="target"
        )
    for name in recipe.features or ():
        if name not in columns:
            raise Invalid(
                "missing_column",
                f"the table has no column '{name}', which 'features' names"
                + did_you_mean(name, columns),
                field=name,
            )
    others = (name for name in columns if name != recipe.target and name not in recipe.drop)
    features = list(recipe.features or others)
    if not features:
        raise Invalid("no_features", "the table has no column but the target", field="features")
    for where, names in (
        ("clean.missing.columns", recipe.clean.missing.columns),
        ("clean.outliers.columns", (recipe.clean.outliers and recipe.clean.outliers.columns) or ()),
    ):
        for name in names:
            if name not in features:
                raise Invalid(
                    "missing_column",
                    f"'{where}' names '{name}', which is no feature{did_you_mean(name, features)}",
                    field=name,
                )
    return features


def useful_features(
    table: Table, features: Sequence[str], recipe: Recipe
) -> tuple[list[str], list[str]]:
    """The features that can tell anything, and a note on each that was left out.

    A column without values, or with one value throughout, is left out; naming it in `features`
    keeps a constant one and makes an empty one an error. Raises `Invalid` for infinite numbers
    and for text with more different values than `prepare.max_categories`.
    """
    kept: list[str] = []
    notes: list[str] = []
    for name in features:
        values = table.frame[name]
        reason = _why_useless(values)
        if reason is not None and recipe.features is None:
            notes.append(f"column '{name}' {reason}: left out")
            continue
        if values.isna().all():
            raise Invalid(
                "empty_column",
                f"column '{name}' {reason}; take it out of 'features'",
                field=name,
            )
        _refuse_infinite(table, name)
        _refuse_crowd(values, name, recipe.prepare.max_categories)
        kept.append(name)
    if not kept:
        raise Invalid(
            "no_features", "no column can tell anything: " + "; ".join(notes), field="features"
        )
    return kept, notes


def resolve_task(asked: Task | Literal["auto"], target: pd.Series, chosen: Algorithm) -> Task:
    """The task a recipe leaves open, by the algorithm where it does one, then by the target.

    Text, truth values and up to 20 different whole numbers are classes; other numbers are values.
    """
    if asked != "auto":
        return asked
    if len(chosen.forms) == 1:
        return next(iter(chosen.forms))
    if not is_number(target):
        return "classification"
    present = target.dropna()
    whole = bool((present == np.floor(present)).all())
    few = present.nunique() <= min(_FEW_VALUES, max(2, len(present) // 2))
    return "classification" if whole and few else "regression"


def labels(table: Table, name: str, task: Task) -> pd.Series:
    """The target as it is learnt: classes as int64, bool or str, values as float64."""
    target = table.frame[name]
    if task == "regression":
        if not is_number(target):
            raise Invalid(
                "wrong_target",
                f"a regression needs numbers, and the target '{name}' holds "
                + ("text" if is_text(target) else "truth values"),
                field=name,
            )
        _refuse_infinite(table, name)
        return target.astype(np.float64)
    if is_number(target):
        if not (target == np.floor(target)).all():
            raise Invalid(
                "wrong_target",
                f"the target '{name}' holds numbers with fractions; set 'task' to 'regression'",
                field=name,
            )
        target = target.astype(np.int64)
    classes = target.nunique()
    if classes < 2:
        raise Invalid(
            "one_class",
            f"the target '{name}' is '{target.iloc[0]!s:.60}' in every row; there is nothing to "
            "tell apart",
            field=name,
        )
    if classes > max(2, len(target) // 2):
        raise Invalid(
            "too_many_classes",
            f"the target '{name}' has {classes:,} classes in {len(target):,} rows; "
            "set 'task' to 'regression', or choose another target",
            field=name,
        )
    return target


def _why_useless(values: pd.Series) -> str | None:
    if values.isna().all():
        return "has no values"
    # A column that is sometimes missing tells something by that.
    if values.notna().all() and values.nunique() == 1:
        return f"is '{values.iloc[0]!s:.40}' in every row"
    return None


def _refuse_infinite(table: Table, name: str) -> None:
    values = table.frame[name]
    if not is_number(values):
        return
    infinite = np.isinf(values.to_numpy(np.float64))
    if infinite.any():
        places = table.places([int(index) for index in values.index[infinite]])
        raise Invalid(
            "infinite_values",
            f"column '{name}' holds infinite values in {places}; mend them, or add their spelling "
            "to 'missing' in [source]",
            field=name,
        )


def _refuse_crowd(values: pd.Series, name: str, most: int) -> None:
    if is_text(values) and (distinct := values.nunique()) > most:
        raise Invalid(
            "too_many_categories",
            f"column '{name}' has {distinct:,} different texts, and 'prepare.max_categories' is "
            f"{most:,}; put it in 'drop', or raise the limit",
            field=name,
        )
