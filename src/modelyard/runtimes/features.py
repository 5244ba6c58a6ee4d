"""Input tensors back to what a fitted estimator was trained on: a DataFrame, or an array."""

from collections.abc import Callable
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
    missing = missing_marker(model)
    if not named:
        return lambda inputs: _objects(inputs, signature, missing)
    return lambda inputs: _columns(inputs, signature, missing)


def takes_numbers(signature: Signature) -> bool:
    """Whether the table is one tensor of numbers, rather than one tensor a column."""
    if len(signature.inputs) != 1:
        return False
    spec = signature.inputs[0]
    return spec.name == INPUT and spec.datatype is not Datatype.BYTES


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


def _columns(inputs: Arrays, signature: Signature, missing: float | None) -> "pd.DataFrame":
    import pandas as pd

    return pd.DataFrame(
        {
            spec.columns[0].name: _series(inputs[spec.name][:, 0], spec.columns[0], missing)
            for spec in signature.inputs
        },
        copy=False,
    )


def _series(values: Array, column: Column, missing: float | None) -> Any:
    import pandas as pd

    if column.datatype is not Datatype.BYTES:
        return values
    if not column.nullable:
        return pd.Series(values, dtype=object)
    absent = values == ""
    return pd.Series(np.where(absent, np.array(missing, object), values), dtype=object)


def _objects(inputs: Arrays, signature: Signature, missing: float | None) -> Array:
    columns = [
        np.asarray(_series(inputs[spec.name][:, 0], spec.columns[0], missing), object)
        for spec in signature.inputs
    ]
    return np.column_stack(columns)
