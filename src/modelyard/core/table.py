"""Tables to tensors and back: rows or columns by name, as every plain contract sends them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import Column, Signature, TensorSpec
from modelyard.core.tensors import from_list

LABEL = "label"
"""The output that holds the predicted class of a classifier."""
PROBABILITIES = "probabilities"
"""The output that holds one probability a class; its columns name the classes."""
PREDICTION = "prediction"
"""The output that holds a regression's value."""


def main_output(signature: Signature) -> TensorSpec:
    """The output that answers "what does the model say": label, prediction, or the only one."""
    for name in (LABEL, PREDICTION):
        found = signature.output(name)
        if found is not None:
            return found
    if len(signature.outputs) == 1:
        return signature.outputs[0]
    raise Invalid(
        "no_prediction",
        "the model has no one prediction; use infer() and pick from its outputs: "
        + ", ".join(f"'{spec.name}'" for spec in signature.outputs),
    )


def probabilities_output(signature: Signature) -> TensorSpec:
    """The output with one probability a class; raises `Invalid` where the model gives none."""
    found = signature.output(PROBABILITIES)
    if found is None:
        raise Invalid("no_probabilities", "the model gives no probabilities; use predict()")
    return found


class TableReader:
    """Reads rows or columns into the input tensors of one signature. Made once, used per call.

    Errors count rows from `first_row`, which is not 0 where the table is a part of a longer one.
    """

    def __init__(self, signature: Signature, *, first_row: int = 0) -> None:
        if not signature.is_table:
            raise Invalid(
                "not_a_table",
                "this model takes tensors, not rows of named columns; call it over /v2",
            )
        self._signature = signature
        self._first_row = first_row
        self._names = [column.name for column in signature.columns]
        self._known = frozenset(self._names)
        self._inputs = {spec.name: (spec.datatype, len(spec.shape)) for spec in signature.inputs}
        self._picks = [_pick(spec) for spec in signature.inputs]

    def rows(self, rows: Sequence[object]) -> dict[str, Array]:
        """Arrays from objects, one a row; columns that the model does not know are ignored."""
        try:
            return {
                spec.name: self._fill(spec, [pick(row) for row in rows])  # type: ignore[arg-type]
                for spec, pick in zip(self._signature.inputs, self._picks, strict=True)
            }
        except (KeyError, TypeError):
            raise self._misfit(rows) from None

    def columns(self, columns: Mapping[str, Sequence[object]]) -> dict[str, Array]:
        """Arrays from one list of values a column, all of one length."""
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            raise Invalid("unequal_rows", "the columns are not all of one length")
        missing = next((name for name in self._names if name not in columns), None)
        if missing is not None:
            raise _missing_column(missing, self._names)
        return {
            spec.name: self._fill(
                spec,
                list(zip(*(columns[column.name] for column in spec.columns), strict=True)),
            )
            for spec in self._signature.inputs
        }

    def arrays(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Input tensors from one array a column: of shape [rows] or [rows, 1], of any datatype.

        What the values must be is as in rows: an integer fits a column of floats, a text does not.
        """
        values: dict[str, list[object]] = {}
        for name in self._names:
            array = arrays.get(name)
            if array is None:
                raise _missing_column(name, self._names)
            if array.ndim not in (1, 2) or array.size != len(array):
                raise Invalid(
                    "wrong_shape",
                    f"column '{name}' needs the shape [rows] or [rows, 1], not {list(array.shape)}",
                    field=name,
                )
            values[name] = array.reshape(-1).tolist()
        return self.columns(values)

    def is_by_column(self, tensors: Iterable[tuple[str, str, int]]) -> bool:
        """Whether tensors, each a name, a datatype and a number of axes, are columns of the table.

        They are not where each is an input just as the signature has it, nor where one has the
        name of an input that is no column's.
        """
        is_by_column = False
        for name, datatype, axes in tensors:
            if name in self._known:
                is_by_column |= self._inputs.get(name) != (datatype, axes)
            elif name in self._inputs:
                return False
        return is_by_column

    def _fill(self, spec: TensorSpec, values: list[tuple[object, ...]]) -> Array:
        shape = (len(values), len(spec.columns))
        try:
            return from_list(spec.datatype, shape, values, spec.name, flags_are_numbers=True)
        except Invalid as error:
            raise _blame(spec, values, self._first_row) or error from None

    def _misfit(self, rows: Sequence[object]) -> Invalid:
        for index, row in enumerate(rows, start=self._first_row):
            if not isinstance(row, Mapping):
                return Invalid(
                    "bad_row",
                    f"row {index} is a {type(row).__name__}, not an object of columns and values",
                    field=f"rows[{index}]",
                )
            for name in self._names:
                if name not in row:
                    return _missing_column(name, self._names, index)
        return Invalid("bad_rows", "the rows cannot be read")


def _pick(spec: TensorSpec) -> "itemgetter[object]":
    # A slice-free itemgetter of one name gives a bare value; the wrapper keeps rows tuples.
    names = [column.name for column in spec.columns]
    if len(names) > 1:
        return itemgetter(*names)
    only = names[0]
    return lambda row: (row[only],)  # type: ignore[return-value]


def _missing_column(name: str, names: list[str], row: int | None = None) -> Invalid:
    where = "" if row is None else f" in row {row}"
    return Invalid(
        "missing_column",
        f"column '{name}' is missing{where}; the model takes "
        + ", ".join(f"'{each}'" for each in names[:40]),
        field=name,
    )


def _blame(spec: TensorSpec, values: list[tuple[object, ...]], first_row: int) -> Invalid | None:
    """Find the column and row whose value does not fit; only called when something does not."""
    for index, column in enumerate(spec.columns):
        for row, line in enumerate(values, start=first_row):
            try:
                from_list(spec.datatype, (1,), [line[index]], column.name, flags_are_numbers=True)
            except Invalid as error:
                return Invalid(
                    error.code,
                    f"column '{column.name}' has {line[index]!r:.80} in row {row}, "
                    f"which is no {_plainly(column)}",
                    field=column.name,
                )
    return None


def _plainly(column: Column) -> str:
    if column.datatype is Datatype.BYTES:
        return "string"
    if column.datatype is Datatype.BOOL:
        return "true or false"
    return "whole number in range" if column.datatype.is_integer else "number in range"


@dataclass(frozen=True, slots=True)
class Predictions:
    """One plain value a row, and for a classifier the probability of each class by name."""

    values: list[object]
    probabilities: list[dict[str, float]] | None = None


def predictions(
    signature: Signature,
    outputs: Mapping[str, Array],
    listed: Callable[[Array], list[Any]] = np.ndarray.tolist,
) -> Predictions:
    """What a caller who sent rows wants back: labels or numbers, not tensors.

    The value of a row is the model's label or prediction; where the model has other outputs, an
    object of all of them by name, or the bare values where it has only one. `listed` makes plain
    values of an array.
    """
    main = outputs.get(LABEL, outputs.get(PREDICTION))
    if main is None or main.ndim == 0:
        return Predictions(_others(outputs, listed))
    values = _plain(main, listed)
    spec = signature.output(PROBABILITIES)
    rows = outputs.get(PROBABILITIES)
    if spec is None or rows is None or not spec.columns:
        return Predictions(values)
    classes = [column.name for column in spec.columns]
    return Predictions(values, [dict(zip(classes, row, strict=True)) for row in listed(rows)])


def _plain(array: Array, listed: Callable[[Array], list[Any]]) -> list[object]:
    if array.ndim > 1 and array.size == len(array):
        array = array.reshape(-1)
    return listed(array)


def _others(outputs: Mapping[str, Array], listed: Callable[[Array], list[Any]]) -> list[object]:
    lists = {
        name: _plain(array, listed) if array.ndim else listed(array.reshape(1))
        for name, array in outputs.items()
    }
    if len(lists) == 1:
        return next(iter(lists.values()))
    rows = min((len(values) for values in lists.values()), default=0)
    return [{name: values[row] for name, values in lists.items()} for row in range(rows)]
