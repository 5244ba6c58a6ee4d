"""What callers hold (frames, rows, columns, arrays) as the tensors of a signature."""

import datetime
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import Signature, TensorSpec
from modelyard.core.table import TableReader
from modelyard.core.tensors import from_list


def to_tensors(signature: Signature, rows: object, *, first_row: int = 0) -> dict[str, Array]:
    """The input tensors of a model, from any of the shapes that `Client.predict` takes.

    A frame, a list of dicts, one dict, or a dict of columns is read by column names; a 2-D array
    or a list of lists by position, which only a model with one tensor of numbers allows. Dates and
    times become text in ISO 8601, a frame's column of midnights its dates alone. Errors count the
    dicts of a list from `first_row`.
    """
    if _is_frame(rows):
        return TableReader(signature).columns(_frame_columns(rows))
    if isinstance(rows, Mapping):
        return _from_mapping(signature, rows)
    if isinstance(rows, np.ndarray):
        return {spec.name: _cast(spec, rows) for spec in (_only_input(signature),)}
    if isinstance(rows, Sequence) and not isinstance(rows, str | bytes):
        if signature.is_table and (not rows or isinstance(rows[0], Mapping)):
            reader = TableReader(signature, first_row=first_row)
            return reader.rows([_plain_row(row) for row in rows])
        spec = _only_input(signature)
        return {spec.name: _from_lists(spec, rows)}
    raise Invalid(
        "bad_rows",
        f"a {type(rows).__name__} is no table: give a DataFrame, a list of dicts, a dict, "
        "or an array",
        field="rows",
    )


def _is_frame(rows: object) -> bool:
    # Who holds a DataFrame has imported pandas; nobody else should pay for it.
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(rows, pandas.DataFrame)


def _frame_columns(frame: Any) -> dict[str, Sequence[object]]:
    columns: dict[str, Sequence[object]] = {}
    for name in frame.columns:
        series = frame[name]
        if series.ndim != 1:
            raise Invalid("repeated_column", f"column '{name}' is there twice", field=str(name))
        columns[str(name)] = _series_values(series)
    return columns


def _series_values(series: Any) -> list[object]:
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "biuf":
        numbers: list[object] = series.tolist()
        return numbers
    if isinstance(series.dtype, np.dtype) and series.dtype.kind == "M":
        present = series.dropna()
        if (present == present.dt.normalize()).all():
            series = series.dt.date
    # Every pandas way of saying "missing" becomes the one that the reader knows.
    values = series.astype(object).where(series.notna(), None).tolist()
    return [_plain(value) for value in values]


def _from_mapping(signature: Signature, rows: Mapping[str, Any]) -> dict[str, Array]:
    if not signature.is_table:
        return cast(signature, rows)
    axes = {_axes(name, value) for name, value in rows.items()}
    if axes <= {0}:
        return TableReader(signature).rows([_plain_row(rows)])
    if axes == {1}:
        return TableReader(signature).columns(
            {name: [_plain(value) for value in values] for name, values in rows.items()}
        )
    return cast(signature, rows)


def _axes(name: str, value: object) -> int:
    try:
        return np.ndim(value)  # type: ignore[arg-type]
    except ValueError:
        raise Invalid("bad_column", f"the values of '{name}' are ragged", field=name) from None


def _plain_row(row: object) -> object:
    if not isinstance(row, Mapping):
        return row
    return {name: _plain(value) for name, value in row.items()}


def _plain(value: object) -> object:
    """A value as JSON would carry it: numpy's scalars as Python's own, dates in ISO 8601."""
    if isinstance(value, np.datetime64):
        return None if np.isnat(value) else str(value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, datetime.date | datetime.time):
        # pandas' NaT is a date that no date is equal to, itself included.
        return value.isoformat() if value == value else None
    return value


def cast(signature: Signature, inputs: Mapping[str, Any]) -> dict[str, Array]:
    """Named arrays in the datatypes of a signature; names that it lacks go as they are.

    Raises `Invalid` where a value would change: a fraction cut off, a number wrapped around.
    """
    specs = {spec.name: spec for spec in signature.inputs}
    return {
        name: _cast(specs[name], np.asarray(array)) if name in specs else np.asarray(array)
        for name, array in inputs.items()
    }


def _cast(spec: TensorSpec, array: Array) -> Array:
    wanted = spec.datatype.dtype
    if array.dtype == wanted and spec.datatype is not Datatype.BYTES:
        return array
    if spec.datatype is Datatype.BYTES or array.dtype.kind not in "biuf":
        return from_list(spec.datatype, array.shape, array.reshape(-1).tolist(), spec.name)
    with np.errstate(over="ignore", invalid="ignore"):
        changed = array.astype(wanted)
    exact = spec.datatype.is_float or np.array_equal(changed, array)
    overflows = spec.datatype.is_float and bool((np.isinf(changed) & np.isfinite(array)).any())
    if overflows or not exact:
        raise Invalid(
            "out_of_range",
            f"'{spec.name}' takes {spec.datatype}, which cannot hold every value given",
            field=spec.name,
        )
    return changed


def _only_input(signature: Signature) -> TensorSpec:
    if len(signature.inputs) == 1:
        return signature.inputs[0]
    names = [column.name for column in signature.columns] or [
        spec.name for spec in signature.inputs
    ]
    # The tensors of a mixed table do not keep the order of its columns.
    raise Invalid(
        "names_needed",
        "this model has several input tensors, so values need names: "
        + ", ".join(f"'{name}'" for name in names[:40]),
        field="rows",
    )


def _from_lists(spec: TensorSpec, rows: Sequence[Any]) -> Array:
    try:
        shape = np.shape(rows)
    except ValueError:
        raise Invalid("ragged_rows", "the rows are not all of one length", field="rows") from None
    return from_list(spec.datatype, shape, rows, spec.name)
