"""Tables as comma-separated text: cells become the values that JSON would have.

Source: RFC 4180; its `header` parameter of `text/csv` says whether the first line holds names.
"""

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import FREE, Signature, TensorSpec
from modelyard.core.table import TableReader
from modelyard.core.tensors import from_list

_MISSING: Final = frozenset({"", "nan", "na", "null"})
_TRUTH: Final = {"true": True, "false": False}
_WHOLE: Final = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


def read_csv(body: bytes, signature: Signature, *, has_header: bool | None) -> Mapping[str, Array]:
    """The input tensors in a CSV body; raises `Invalid` naming the column at fault.

    Without a word on it, a first line that has every column's name is a header; other tables are
    read by position, in the signature's order of columns. A model without columns takes one row of
    numbers a line. Missing is an empty cell, and in columns of numbers `nan`, `NA` and `null` too.
    """
    lines = _lines(body)
    if not signature.is_table:
        return {spec.name: _tensor(spec, lines) for spec in (_only(signature),)}
    names = [column.name for column in signature.columns]
    first = [cell.strip() for cell in lines[0]] if lines else []
    if has_header or (has_header is None and set(names) <= set(first)):
        lines = lines[1:]
        given = first
    else:
        given = names
    if len(set(given)) != len(given):
        raise Invalid("bad_csv", "a column is named twice in the first line")
    for index, line in enumerate(lines):
        if len(line) != len(given):
            raise Invalid(
                "bad_row",
                f"row {index} has {len(line)} values for {len(given)} columns; send one line a "
                f"row, and a first line of names or the columns in this order: "
                + ", ".join(names[:40]),
                field=f"rows[{index}]",
            )
    cells = dict(zip(given, zip(*lines, strict=True) if lines else ((),) * len(given), strict=True))
    return TableReader(signature).columns(
        {
            column.name: _values(column.datatype, cells[column.name])
            for column in signature.columns
            if column.name in cells
        }
    )


def write_csv(rows: Iterable[object]) -> bytes:
    """One line a row: a value, or the values of a list or of an object."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for row in rows:
        writer.writerow(_flat(row))
    return text.getvalue().encode()


def _lines(body: bytes) -> list[list[str]]:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Invalid("bad_csv", "the body is not UTF-8 text") from None
    try:
        return [line for line in csv.reader(io.StringIO(text, newline=""), strict=True) if line]
    except csv.Error as error:
        raise Invalid("bad_csv", f"the body is not CSV: {error}") from None


def _values(datatype: Datatype, cells: Sequence[str]) -> list[object]:
    read: Callable[[str], object] = _text if datatype is Datatype.BYTES else _number
    return [read(cell) for cell in cells]


def _text(cell: str) -> object:
    return cell or None


def _number(cell: str) -> object:
    """A number, a truth value or None; what is none of these stays text, for the reader to blame.

    Python's own float() would take digits of other scripts and underscores.
    """
    cell = cell.strip()
    if _WHOLE.fullmatch(cell):
        return int(cell)
    if _NUMBER.fullmatch(cell):
        return float(cell)
    lower = cell.lower()
    return None if lower in _MISSING else _TRUTH.get(lower, cell)


def _only(signature: Signature) -> TensorSpec:
    if signature.batched and len(signature.inputs) == 1:
        return signature.inputs[0]
    raise Invalid("not_rows", "this model takes no single table of numbers; call it over /v2")


def _tensor(spec: TensorSpec, lines: list[list[str]]) -> Array:
    width = math.prod(spec.shape[1:])
    free = [axis for axis in range(1, len(spec.shape)) if spec.shape[axis] == FREE]
    if free:
        if len(spec.shape) != 2:
            raise Invalid("not_rows", f"'{spec.name}' has free axes; call the model over /v2")
        width = len(lines[0]) if lines else 0
    values: list[object] = []
    for index, line in enumerate(lines):
        if len(line) != width:
            raise Invalid(
                "bad_row",
                f"row {index} has {len(line)} values, not {width}",
                field=f"rows[{index}]",
            )
        values.extend(_values(spec.datatype, line))
    shape = (len(lines), *((width,) if free else spec.shape[1:]))
    return from_list(spec.datatype, shape, values, spec.name)


def _flat(row: object) -> list[object]:
    if isinstance(row, dict):
        return [value for each in row.values() for value in _flat(each)]
    if isinstance(row, list):
        return [value for each in row for value in _flat(each)]
    return [row]
