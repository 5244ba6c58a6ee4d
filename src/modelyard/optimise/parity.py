"""Proves two runtimes equal on rows, or says by how much they are not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelyard.core.datatypes import Array
from modelyard.core.ports import Arrays, Runtime
from modelyard.core.signature import Signature

TOLERANCE: Final = 1e-5
"""How far apart two equal numbers may be, relative to the larger of 1 and their size."""


@dataclass(frozen=True, slots=True)
class Parity:
    """What a comparison over `rows` rows found; `complaint` is empty where nothing was wrong."""

    rows: int
    labels_differing: int = 0
    max_difference: float = 0.0
    complaint: str = ""

    @property
    def is_equal(self) -> bool:
        """No label differs, no number by more than the tolerance."""
        return not self.complaint


def prove_equal(native: Runtime, converted: Runtime, inputs: Arrays) -> Parity:
    """Run both on all rows at once, and the converted one on single rows too.

    `inputs` are in the native runtime's datatypes; the converted one gets them in its own.
    """
    expected = native.run(inputs)
    theirs = cast_inputs(converted.signature, inputs)
    parity = compare(expected, converted.run(theirs))
    if not parity.is_equal:
        return parity
    return _check_batches(converted, theirs, parity)


def _check_batches(runtime: Runtime, inputs: Arrays, parity: Parity) -> Parity:
    """Rows must not influence each other: a batch and its single rows agree."""
    count = min(parity.rows, 8)
    few = {name: array[:count] for name, array in inputs.items()}
    together = runtime.run(few)
    for row in range(count):
        alone = runtime.run({name: array[row : row + 1] for name, array in few.items()})
        one = compare({name: array[row : row + 1] for name, array in together.items()}, alone)
        if not one.is_equal:
            return Parity(
                parity.rows,
                one.labels_differing,
                one.max_difference,
                f"row {row} alone and in a batch of {count} gives different answers: "
                f"{one.complaint}",
            )
    return parity


def compare(expected: Mapping[str, Array], actual: Mapping[str, Array]) -> Parity:
    """Hold outputs against those expected: labels exactly, numbers within the tolerance."""
    rows = max((len(array) for array in expected.values() if array.ndim), default=0)
    labels, largest, complaints = 0, 0.0, []
    for name, wanted in expected.items():
        got = actual[name]
        if got.shape != wanted.shape:
            complaints.append(
                f"the shape of '{name}' is {list(got.shape)}, not {list(wanted.shape)}"
            )
        elif wanted.dtype.kind == "f":
            difference = _difference(wanted, got)
            largest = max(largest, difference)
            if not difference <= TOLERANCE:
                complaints.append(f"the largest difference of '{name}' is {difference:.2g}")
        else:
            differing = int(np.count_nonzero(wanted != got))
            labels += differing
            if differing:
                complaints.append(f"{differing} of {rows} values of '{name}' differ")
    return Parity(rows, labels, largest, ", ".join(complaints))


def _difference(wanted: Array, got: Array) -> float:
    """The largest difference, relative to max(1, |wanted|); infinite where only one is a number."""
    if wanted.size == 0:
        return 0.0
    left, right = wanted.astype(np.float64), got.astype(np.float64)
    if not np.array_equal(np.isfinite(left), np.isfinite(right)):
        return float("inf")
    with np.errstate(invalid="ignore"):
        difference = np.abs(left - right) / np.maximum(1.0, np.abs(left))
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    return float(np.where(same, 0.0, difference).max())


def cast_inputs(signature: Signature, inputs: Arrays) -> dict[str, Array]:
    """The inputs in the datatypes of a signature."""
    return {
        spec.name: inputs[spec.name].astype(spec.datatype.dtype, copy=False)
        for spec in signature.inputs
    }
