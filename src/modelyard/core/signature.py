"""What a model takes and gives: named, typed, shaped tensors, and columns where it is a table."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid

_Axes = tuple[tuple[int, int], ...]

FREE = -1
"""The length of an axis that a caller may choose."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: a position on the last axis of a tensor.

    `categories` lists every value that was seen in training, where they are few; a value outside
    them is refused unless `open_categories` says that the model knows what to do with it.
    """

    name: str
    datatype: Datatype
    nullable: bool = False
    categories: tuple[str, ...] | None = None
    open_categories: bool = False
    unit: str | None = None


@dataclass(frozen=True)
class TensorSpec:
    """One named input or output.

    `shape` has `-1` for free axes; axis 0 is the batch when the signature is batched.
    `columns`, where given, names the positions of the last axis (`len(columns) == shape[-1]`):
    table columns of an input, class names of a probability output.
    `nullable` allows NaN in a float tensor that has no columns of its own to say so.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    columns: tuple[Column, ...] = ()
    nullable: bool = True

    @property
    def is_picky(self) -> bool:
        """Whether some float must be refused: NaN where it is not allowed, infinity in a table."""
        return self.datatype.is_float and (bool(self.columns) or not self.nullable)


@dataclass(frozen=True)
class Signature:
    """Inputs and outputs of a bundle, in the model's own order.

    `batched` says that axis 0 of every input and output is the batch, and that rows do not
    influence each other: only then may calls be joined. `task` is `classification`, `regression`
    or None.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    batched: bool = True
    task: str | None = None

    @property
    def is_table(self) -> bool:
        """Whether every input is made of named columns, so that rows can be sent as objects."""
        return self.batched and bool(self.inputs) and all(spec.columns for spec in self.inputs)

    @property
    def columns(self) -> tuple[Column, ...]:
        """All table columns, in the order of the inputs that hold them."""
        return tuple(column for spec in self.inputs for column in spec.columns)

    def output(self, name: str) -> TensorSpec | None:
        """The output of that name, or None."""
        return next((spec for spec in self.outputs if spec.name == name), None)

    @cached_property
    def _plan(self) -> tuple[tuple[str, TensorSpec, np.dtype[Any], int, _Axes, bool, bool], ...]:
        # What a check asks of each input, worked out once: a check is in every call's way.
        return tuple(
            (
                spec.name,
                spec,
                spec.datatype.dtype,
                len(spec.shape),
                tuple((axis, length) for axis, length in enumerate(spec.shape) if length != FREE),
                spec.is_picky,
                spec.datatype is Datatype.BYTES and bool(spec.columns),
            )
            for spec in self.inputs
        )

    def check(self, arrays: Mapping[str, Array], *, first_row: int = 0) -> int:
        """Refuse arrays that this signature does not describe; return the number of rows.

        Arrays must already have the exact dtype (`Datatype.dtype`). A model that is not batched
        counts as one row. Raises `Invalid` with the tensor at fault in `field`; it counts rows from
        `first_row`.
        """
        rows = FREE
        for name, spec, dtype, rank, fixed, is_picky, is_text in self._plan:
            array = arrays.get(name)
            if array is None:
                raise self._missing(name)
            shape = array.shape
            if array.dtype != dtype or len(shape) != rank:
                raise _misfit(spec, array)
            for axis, length in fixed:
                if shape[axis] != length:
                    raise _misfit(spec, array)
            if is_picky and not is_surely_finite(array):
                _refuse_missing(spec, array, first_row)
            elif is_text:
                _refuse_unseen(spec, array, first_row)
            if rows == FREE:
                rows = shape[0] if rank else 1
            elif self.batched and shape[0] != rows:
                raise Invalid(
                    "unequal_rows",
                    f"input '{name}' has {shape[0]} rows, the others {rows}",
                    field=name,
                )
        if len(arrays) != len(self.inputs):
            raise self._unknown(arrays)
        return rows if self.batched and self.inputs else 1

    def _missing(self, name: str) -> Invalid:
        names = ", ".join(f"'{each.name}'" for each in self.inputs)
        return Invalid(
            "missing_input", f"input '{name}' is missing; the model takes {names}", field=name
        )

    def _unknown(self, arrays: Mapping[str, Array]) -> Invalid:
        known = [spec.name for spec in self.inputs]
        unknown = next(name for name in arrays if name not in known)
        names = ", ".join(f"'{name}'" for name in known)
        return Invalid(
            "unknown_input",
            f"the model has no input '{unknown:.140}'; it takes {names}",
            field=unknown,
        )


def is_surely_finite(array: Array) -> bool:
    """Whether no element can be NaN or infinite; False only means that one has to look.

    The sum of squares is finite only if every element is: one call instead of a mask and its
    reduction, a third of their cost for the few numbers of a typical row.
    """
    flat = array.reshape(-1)
    return math.isfinite(np.vdot(flat, flat))


def _misfit(spec: TensorSpec, array: Array) -> Invalid:
    """Which of dtype, rank and fixed axes it is that differs."""
    shape = array.shape
    if array.dtype != spec.datatype.dtype:
        return Invalid(
            "wrong_datatype",
            f"input '{spec.name}' is {spec.datatype}, not {Datatype.of(array.dtype)}",
            field=spec.name,
        )
    if len(shape) != len(spec.shape):
        return Invalid(
            "wrong_rank",
            f"input '{spec.name}' has {len(spec.shape)} axes {list(spec.shape)}, "
            f"not {len(shape)} {list(shape)}",
            field=spec.name,
        )
    axis = next(axis for axis, length in enumerate(spec.shape) if length not in (FREE, shape[axis]))
    return Invalid(
        "wrong_shape",
        f"axis {axis} of input '{spec.name}' has length {spec.shape[axis]}, not {shape[axis]}",
        field=spec.name,
    )


def _refuse_missing(spec: TensorSpec, array: Array, first_row: int) -> None:
    finite = np.isfinite(array)
    if finite.all():
        return
    if not spec.columns:
        raise Invalid("not_finite", f"input '{spec.name}' holds NaN or infinity", field=spec.name)
    for index, column in enumerate(spec.columns):
        values = array[..., index]
        allowed = ~np.isinf(values) if column.nullable else np.isfinite(values)
        if not allowed.all():
            row = first_row + int(np.argmin(allowed.reshape(-1)))
            raise Invalid(
                "not_finite",
                f"column '{column.name}' is missing, NaN or infinite in row {row}, "
                "and the model takes no missing values there",
                field=column.name,
            )


def _refuse_unseen(spec: TensorSpec, array: Array, first_row: int) -> None:
    for index, column in enumerate(spec.columns):
        if column.categories is None or column.open_categories:
            continue
        allowed = set(column.categories)
        if column.nullable:
            allowed.add("")
        for row, value in enumerate(array[..., index].reshape(-1), start=first_row):
            if value not in allowed:
                raise Invalid(
                    "unseen_category",
                    f"column '{column.name}' has '{value!s:.80}' in row {row}; known are "
                    + ", ".join(f"'{each}'" for each in column.categories[:20]),
                    field=column.name,
                )
