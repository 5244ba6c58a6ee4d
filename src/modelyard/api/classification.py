"""The classification extension: the best classes of an output as text, instead of its tensor.

Source: Triton, classification extension: the answer is a BYTES tensor of shape [rows, count] whose
elements read `value:index` or `value:index:label`, the largest value first.
"""

import math
from typing import Any, Final

import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import TensorSpec

PARAMETER: Final = "classification"
"""The parameter of a requested output that asks for it; its value is how many classes."""


def class_count(spec: TensorSpec, value: object) -> int:
    """How many classes are asked for; raises `Invalid` where the output has none to compare."""
    if type(value) is not int or value < 1:
        raise Invalid(
            "bad_parameter",
            f"parameter '{PARAMETER}' is how many classes to name, 1 or more",
            field=spec.name,
        )
    if spec.datatype is Datatype.BYTES:
        raise Invalid(
            "not_classes",
            f"output '{spec.name}' holds text, not one number a class; ask for the output itself",
            field=spec.name,
        )
    return value


def best_classes(spec: TensorSpec, array: Array, count: int, *, batched: bool) -> Array:
    """The `count` largest elements of each row as text, fewer where a row has fewer.

    Of equal values the one of the lower index comes first; NaN comes last.
    """
    height = len(array) if batched else 1
    width = math.prod(array.shape[1:] if batched else array.shape)
    rows = array.reshape(height, width)
    ranked = np.where(np.isnan(rows), -np.inf, rows) if rows.dtype.kind == "f" else rows
    # A stable ascending sort of the mirrored row, read from its end, keeps equal values in order.
    order = (width - 1 - np.argsort(ranked[:, ::-1], axis=1, kind="stable"))[:, ::-1][:, :count]
    labels = [column.name for column in spec.columns]
    named = labels if len(labels) == width else None
    best = np.empty(order.shape, object)
    for row, indices in enumerate(order.tolist()):
        for place, index in enumerate(indices):
            said = f"{_digits(rows[row, index])}:{index}"
            best[row, place] = said if named is None else f"{said}:{named[index]}"
    return best if batched else best.reshape(-1)


def _digits(value: Any) -> str:
    # A float32's own few digits, where str of its Python value would show sixteen.
    return str(int(value)) if isinstance(value, np.bool_) else str(value)
