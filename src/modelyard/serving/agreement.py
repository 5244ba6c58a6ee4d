"""When two answers are the same: labels exactly, numbers as far as processors agree on them."""

from collections.abc import Mapping
from typing import Final

import numpy as np

from modelyard.core.datatypes import Array

_TOLERANCE: Final = 1e-4
"""Relative to the larger of 1 and the expected number: another processor rounds differently."""


def agrees(wanted: Array, got: Array | None) -> bool:
    """Whether an output is what was expected, in shape and values."""
    if got is None or got.shape != wanted.shape:
        return False
    if wanted.dtype == got.dtype != object and wanted.tobytes() == got.tobytes():
        return True
    if wanted.dtype.kind != "f" or got.dtype.kind not in "fiu":
        return bool(np.array_equal(wanted, got))
    return bool(np.all(_near(wanted, got)))


def first_difference(wanted: Array, got: Array) -> tuple[int, ...]:
    """Where two outputs of one shape that do not agree differ first."""
    both = wanted.dtype.kind == "f" and got.dtype.kind in "fiu"
    same = _near(wanted, got) if both else np.equal(wanted, got)
    return tuple(int(place) for place in np.argwhere(~np.asarray(same, bool))[0])


def labels_agree(wanted: Mapping[str, Array], got: Mapping[str, Array]) -> bool:
    """Whether everything but floating-point numbers is the same: the decision, not its odds."""
    return all(
        agrees(array, got.get(name)) for name, array in wanted.items() if array.dtype.kind != "f"
    )


def _near(wanted: Array, got: Array) -> Array:
    # float16 and huge float32 values would overflow in their own arithmetic.
    expected, answered = wanted.astype(np.float64), got.astype(np.float64)
    with np.errstate(invalid="ignore"):
        near = np.abs(answered - expected) <= _TOLERANCE * np.maximum(1.0, np.abs(expected))
    same: Array = near | (expected == answered) | (np.isnan(expected) & ~np.isfinite(answered))
    return same
