"""Rewrites a copy of a fitted estimator into the forms that skl2onnx understands."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from modelyard.runtimes.columns import column_positions
from modelyard.runtimes.steps import last_step, walk

_LABELLED: Final = "LabelledClassifier"


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The copy, and the labels that its whole-number answers stand for, where it was unwrapped."""

    model: Any
    classes: "np.ndarray[Any, Any] | None"


def rewritten(model: Any, names: Sequence[str], *, cast_trees: bool) -> Rewritten:
    """A copy for the converter.

    Columns by position instead of by name; missing strings as empty strings; whole numbers as
    `int`; label encoders taken off; trees behind a cast to float32 where `cast_trees`.
    """
    twin = copy.deepcopy(model)
    classes = None
    last = last_step(twin)
    if type(last).__name__ == _LABELLED:
        classes = last.classes_  # type: ignore[attr-defined]
        twin = _with_last(twin, lambda labelled: labelled.estimator_)
    _select_by_position(twin, list(names))
    for part in walk(twin):
        _mend(part)
    twin = _with_last(twin, _supported)
    if cast_trees:
        twin = _with_cast(twin)
    return Rewritten(twin, classes)


def _select_by_position(model: Any, names: list[str]) -> None:
    """Column selections of every ColumnTransformer that sees the raw table."""
    if hasattr(model, "transformers_"):
        model.transformers_ = [
            (name, transformer, column_positions(selected, names))
            for name, transformer, selected in model.transformers_
        ]
        return
    steps = getattr(model, "steps", None)
    if steps:
        _select_by_position(steps[0][1], names)


def _mend(part: Any) -> None:
    kind = type(part).__name__
    if kind == "SimpleImputer" and part.statistics_.dtype.kind in "OU":
        part.missing_values = ""
    for name in ("categories_", "classes_"):
        if hasattr(part, name):
            _mend_values(part, name)
    if hasattr(part, "flatten_transform"):
        part.flatten_transform = False
    if type(part).__module__.startswith("xgboost."):
        _simplify_booster(part)


def _mend_values(part: Any, name: str) -> None:
    values = getattr(part, name)
    new = [_plain(each) for each in values] if isinstance(values, list) else _plain(values)
    try:
        setattr(part, name, new)
    except AttributeError:
        # XGBoost computes its classes; they are whole numbers already.
        return


def _plain(values: Any) -> Any:
    """Booleans as whole numbers, missing strings as empty ones."""
    array = np.asarray(values)
    if array.dtype.kind == "b":
        return array.astype(np.int64)
    if array.dtype.kind == "O" and any(isinstance(each, str) for each in array):
        return np.array([each if isinstance(each, str) else "" for each in array], object)
    return values


def _simplify_booster(part: Any) -> None:
    """The converter reads feature numbers out of names such as `f12`, XGBoost's own default.

    It also leaves probabilities out where the objective asks for labels only.
    """
    if part.objective == "multi:softmax":
        part.objective = "multi:softprob"
    booster = part.get_booster()
    booster.feature_names = None
    booster.feature_types = None


def _with_last(model: Any, change: Callable[[Any], Any]) -> Any:
    """The model, its deciding estimator changed."""
    if not getattr(model, "steps", None):
        return change(model)
    name, last = model.steps[-1]
    model.steps[-1] = (name, _with_last(last, change))
    return model


def _supported(estimator: Any) -> Any:
    """A linear classifier that the converter cannot read, as one with the same arithmetic."""
    if type(estimator).__name__ != "LinearSVC":
        return estimator
    from sklearn.linear_model import SGDClassifier

    twin = SGDClassifier(loss="hinge")
    for name in ("coef_", "intercept_", "classes_", "n_features_in_"):
        setattr(twin, name, getattr(estimator, name))
    return twin


def _with_cast(model: Any) -> Any:
    from skl2onnx.sklapi import CastTransformer
    from sklearn.pipeline import Pipeline

    cast = ("cast_to_float32", CastTransformer(dtype=np.float32))
    steps = getattr(model, "steps", None) or [("estimator", model)]
    return Pipeline([*steps[:-1], cast, steps[-1]])
