"""Input tensors back to what a fitted estimator was trained on: a DataFrame, or an array."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.ports import Arrays
from modelyard.core.signature import Column, Signature
from modelyard.runtimes.steps import walk

if TYPE_CHECKING:
    import pandas as pd

INPUT = "input"
"""The one tensor of a table that holds nothing but numbers."""

Features = Callable[[Arrays], "pd.DataFrame | Array"]


def features_for(model: object, signature: Signature) -> Features:
    """The function that gives `model` its features.

    An estimator that was fitted with column names gets a DataFrame, any other an array.
    """
    names = [column.name for column in signature.columns]
    named = hasattr(model, "feature_names_in_")
    if takes_numbers(signature):
        only = signature.inputs[0].name
        if not named:
            return lambda inputs: inputs[only]
        return lambda inputs: _frame(inputs[only], names)
    text = _Text(missing_marker(model), _takes_categories(model))
    if not named:
        return lambda inputs: _objects(inputs, signature, text)
    return lambda inputs: _columns(inputs, signature, text)


def takes_numbers(signature: Signature) -> bool:
    """Whether the table is one tensor of numbers, rather than one tensor a column."""
    if len(signature.inputs) != 1:
        return False
    spec = signature.inputs[0]
    return spec.name == INPUT and spec.datatype is not Datatype.BYTES


@dataclass(frozen=True, slots=True)
class _Text:
    """How a model wants its text: what stands for a missing value, and whether as categories."""

    missing: float | None
    categorical: bool


def _takes_categories(model: object) -> bool:
    """Whether it is an estimator that splits on pandas' categories itself."""
    inner = getattr(model, "estimator_", model)
    return type(inner).__name__.startswith(("HistGradientBoosting", "XGB", "LGBM"))


def missing_marker(model: object) -> float | None:
    """What stands for a missing string in the table that `model` was fitted on: NaN or None.

    scikit-learn tells them apart: an imputer fills only its own, an encoder knows only its own.
    """
    for part in walk(model):
        if type(part).__name__ == "SimpleImputer" and part.missing_values is None:  # type: ignore[attr-defined]
            return None
        for categories in getattr(part, "categories_", None) or ():
            if any(value is None for value in categories):
                return None
    return np.nan


def _frame(array: Array, names: list[str]) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(array, columns=names, copy=False)


def _columns(inputs: Arrays, signature: Signature, text: _Text) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        {
            spec.columns[0].name: _series(inputs[spec.name][:, 0], spec.columns[0], text)
            for spec in signature.inputs
        },
        copy=False,
    )


def _series(values: Array, column: Column, text: _Text) -> Any:
    import pandas as pd

    if column.datatype is not Datatype.BYTES:
        return values
    if text.categorical and column.categories is not None:
        known = pd.Index(list(column.categories), dtype=object)
        # What is not among them, a gap or a new word, gets the code -1: missing.
        return pd.Categorical.from_codes(known.get_indexer(pd.Index(values)), categories=known)
    if not column.nullable:
        return pd.Series(values, dtype=object)
    absent = values == ""
    return pd.Series(np.where(absent, np.array(text.missing, object), values), dtype=object)


def _objects(inputs: Arrays, signature: Signature, text: _Text) -> Array:
    columns = [
        np.asarray(_series(inputs[spec.name][:, 0], spec.columns[0], text), object)
        for spec in signature.inputs
    ]
    return np.column_stack(columns)
