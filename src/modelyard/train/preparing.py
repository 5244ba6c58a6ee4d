"""Imputation, scaling and encoding: the part of the pipeline before the estimator."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
)

from modelyard.core.errors import Invalid
from modelyard.train.algorithms import Algorithm
from modelyard.train.cleaning import strategy_of
from modelyard.train.columns import is_number, is_text
from modelyard.train.recipe import Constant, Missing, Prepare, Strategy

_SCALERS = {"standard": StandardScaler, "minmax": MinMaxScaler, "robust": RobustScaler}
MISSING_TEXT = "missing"
"""The category that missing text becomes where it is kept."""

Group = tuple[str, Strategy | Constant | None]


def preparer(
    frame: pd.DataFrame, missing: Missing, prepare: Prepare, chosen: Algorithm
) -> ColumnTransformer | None:
    """The transformer for a feature frame, not fitted; None where there is nothing to do.

    A gap is filled only in columns that have one in `frame`, or whose filling the recipe names:
    where training never saw a gap, a call that has one is refused rather than guessed at. `frame`
    is all rows, so that the parts agree on it; what fills a gap is learnt from the train part.
    """
    groups: dict[Group, list[str]] = {}
    for name in frame.columns:
        groups.setdefault(_group(str(name), frame[name], missing, chosen), []).append(str(name))
    scale = prepare.scale
    if scale == "auto":
        scale = "standard" if chosen.scales else "none"
    steps = [
        (_label(group), _steps(group, scale, prepare, frame[names]), names)
        for group, names in groups.items()
    ]
    # Boosters refuse some column names that tables have; behind a transformer they see none.
    if chosen.takes_frames and all(step == "passthrough" for _, step, _ in steps):
        return None
    return ColumnTransformer(steps)


def _group(name: str, values: pd.Series, missing: Missing, chosen: Algorithm) -> Group:
    kind = "text" if is_text(values) else "number" if is_number(values) else "boolean"
    if kind == "boolean":
        # Truth values with gaps have become numbers before; these have none.
        return kind, None
    strategy = strategy_of(missing, name, values)
    if kind == "text" and isinstance(strategy, str) and strategy in ("mean", "median"):
        raise _unfit(name, f"text has no {strategy}")
    if kind == "number" and isinstance(strategy, Constant) and isinstance(strategy.constant, str):
        raise _unfit(name, f"'{strategy.constant}' is no number")
    named = name in missing.columns and strategy not in ("drop", "auto", "keep")
    if not values.isna().any() and not named:
        return kind, None
    if strategy == "auto":
        strategy = "keep" if chosen.takes_missing or kind == "text" else "median"
    if strategy == "keep" and kind == "number":
        if not chosen.takes_missing:
            raise _unfit(name, f"'{chosen.name}' takes no missing values: fill or drop them")
        return kind, None
    return kind, strategy


def _unfit(name: str, why: str) -> Invalid:
    return Invalid(
        "bad_strategy", f"[clean.missing] does not suit column '{name}': {why}", field=name
    )


def _label(group: Group) -> str:
    kind, strategy = group
    if strategy is None:
        return kind
    if isinstance(strategy, Constant):
        # A double underscore would end a step's name in scikit-learn.
        return f"{kind}_{strategy.constant}".replace("__", "_")
    return f"{kind}_{strategy}"


def _steps(group: Group, scale: str, prepare: Prepare, frame: pd.DataFrame) -> Any:
    kind, strategy = group
    steps: list[Any] = []
    if strategy is not None:
        steps.append(_imputer(kind, strategy))
    if kind == "text":
        steps.append(_encoder(prepare, _categories(frame, strategy)))
    elif kind == "number" and scale != "none":
        steps.append(_SCALERS[scale]())
    if not steps:
        return "passthrough"
    return steps[0] if len(steps) == 1 else make_pipeline(*steps)


def _imputer(kind: str, strategy: Strategy | Constant) -> SimpleImputer:
    if isinstance(strategy, Constant):
        value = str(strategy.constant) if kind == "text" else float(strategy.constant)
        return SimpleImputer(strategy="constant", fill_value=value)
    if strategy == "keep":
        return SimpleImputer(strategy="constant", fill_value=MISSING_TEXT)
    # A column may be empty in the train part alone; it must not vanish from the matrix.
    return SimpleImputer(strategy=strategy, keep_empty_features=True)


def _encoder(prepare: Prepare, categories: list[list[str]]) -> OneHotEncoder | OrdinalEncoder:
    known: Any = "auto"
    if prepare.unknown == "error":
        # A category that only the test part has is known all the same.
        known = categories
    if prepare.encode == "onehot":
        return OneHotEncoder(
            categories=known,
            handle_unknown=prepare.unknown,
            sparse_output=False,
            dtype=np.float64,
        )
    if prepare.unknown == "error":
        return OrdinalEncoder(categories=known)
    return OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)


def _categories(frame: pd.DataFrame, strategy: Strategy | Constant | None) -> list[list[str]]:
    filled = (
        {str(strategy.constant) if isinstance(strategy, Constant) else MISSING_TEXT}
        if isinstance(strategy, Constant) or strategy == "keep"
        else set()
    )
    return [sorted({*map(str, frame[name].dropna()), *filled}) for name in frame.columns]


def feature_names(head: ColumnTransformer | None, columns: Sequence[str]) -> list[str]:
    """The names of the columns that the estimator sees, in its order."""
    if head is None:
        return list(columns)
    return [str(name).partition("__")[2] for name in head.get_feature_names_out()]
