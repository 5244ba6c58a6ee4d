"""What kind of values a column holds: text cells become numbers, truth values or stay text."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from modelyard.core.errors import Invalid
from modelyard.train.recipe import ColumnType
from modelyard.train.table import Table

# A column that is mostly numbers is meant to be one; below this share it is text with digits.
_MOSTLY = 0.5
_TRUTH = {"true": True, "false": False}


def typed(table: Table, types: Mapping[str, ColumnType], decimal: str = ".") -> Table:
    """The table with every column float64, int64, bool or str; `types` overrules what is seen.

    A column of digits with leading zeros (post codes, account numbers) stays text. A column of
    truth values that has missing ones becomes numbers, 1 and 0. Raises `Invalid` naming the first
    rows of a column that is mostly numbers and not all.
    """
    columns = {
        str(name): _convert(table, str(name), types.get(str(name)), decimal)
        for name in table.frame.columns
    }
    return Table(pd.DataFrame(columns, table.frame.index), table.dataset, table.places)


def is_number(values: pd.Series) -> bool:
    """Whether a typed column is int64 or float64."""
    return values.dtype.kind in "if"


def is_text(values: pd.Series) -> bool:
    """Whether a typed column is text."""
    return values.dtype.kind not in "ifb"


def _convert(table: Table, name: str, wanted: ColumnType | None, decimal: str) -> pd.Series:
    values = table.frame[name]
    kind = values.dtype.kind
    if wanted is None:
        if kind in "iub":
            return _integers(values) if kind != "b" else values.astype(np.bool_)
        if kind == "f":
            return values.astype(np.float64)
        return _infer(table, name, values, decimal)
    if wanted == "text":
        return _text(values)
    if wanted == "boolean":
        return _booleans(table, name, values)
    numbers = _numbers(table, name, values, decimal, wanted)
    if wanted == "number":
        return numbers.astype(np.float64)
    return _whole(table, name, numbers)


def _infer(table: Table, name: str, values: pd.Series, decimal: str) -> pd.Series:
    """The kind of a column of cells that came as text or as mixed objects."""
    present = values.dropna()
    if present.empty:
        return values.astype(np.float64)
    if present.dtype == object and present.map(lambda value: isinstance(value, bool)).all():
        return values.astype(np.float64) if len(present) < len(values) else values.astype(np.bool_)
    _refuse_dates(name, present)
    distinct = present.astype("str").str.strip().str.lower().unique()
    if len(distinct) <= len(_TRUTH) and set(distinct) <= set(_TRUTH):
        return _booleans(table, name, values)
    cells = _cells(present, decimal)
    numbers = _parsed(cells)
    wrong = numbers.isna()
    if wrong.mean() > 1.0 - _MOSTLY:
        return _text(values)
    if not wrong.any() and cells.str.fullmatch(r"0\d+").any():
        return _text(values)
    return _as_numbers(table, name, values, cells, numbers, None)


def _cells(present: pd.Series, decimal: str) -> pd.Series:
    cells = present.astype("str").str.strip()
    return cells.str.replace(decimal, ".", regex=False) if decimal != "." else cells


def _parsed(cells: pd.Series) -> pd.Series:
    """The nearest float64 of each cell, NaN where there is no number in it."""
    try:
        # Ten times as fast as pandas; it takes no '+' and nothing that is not a number.
        return pd.Series(pc.cast(pa.array(cells), pa.float64()).to_numpy(), cells.index)
    except pa.ArrowInvalid:
        numbers = pd.to_numeric(cells, errors="coerce")
        # pandas may miss the nearest float by a bit; a caller's JSON will not.
        return numbers.where(numbers.isna(), cells.where(numbers.notna(), "nan").map(float))


def _as_numbers(
    table: Table,
    name: str,
    values: pd.Series,
    cells: pd.Series,
    numbers: pd.Series,
    wanted: ColumnType | None,
) -> pd.Series:
    wrong = cells[numbers.isna()]
    if len(wrong):
        raise _mixed(table, name, wrong, wanted)
    if len(cells) == len(values) and cells.str.fullmatch(r"[+-]?\d{1,18}").all():
        return cells.str.lstrip("+").astype(np.int64)
    return numbers.astype(np.float64).reindex(values.index)


def _mixed(table: Table, name: str, wrong: pd.Series, wanted: ColumnType | None) -> Invalid:
    first = wrong.iloc[0]
    advice = (
        f"mend it, or set its type to 'text', or add '{first:.40}' to 'missing' in [source]"
        if wanted is None
        else f"mend it, or add '{first:.40}' to 'missing' in [source]"
    )
    return Invalid(
        "mixed_types",
        f"column '{name}' holds numbers, but '{first:.40}' in "
        f"{table.places([int(index) for index in wrong.index])}; {advice}",
        field=name,
    )


def _numbers(
    table: Table, name: str, values: pd.Series, decimal: str, wanted: ColumnType
) -> pd.Series:
    if values.dtype.kind in "iufb":
        return values
    cells = _cells(values.dropna(), decimal)
    return _as_numbers(table, name, values, cells, _parsed(cells), wanted)


def _whole(table: Table, name: str, numbers: pd.Series) -> pd.Series:
    broken = numbers.notna() & (numbers != np.floor(numbers.astype(np.float64)))
    if broken.any():
        raise Invalid(
            "mixed_types",
            f"column '{name}' shall hold whole numbers, but has {numbers[broken].iloc[0]} in "
            + table.places(_positions(broken)),
            field=name,
        )
    if numbers.isna().any():
        return numbers.astype(np.float64)
    return numbers.astype(np.int64)


def _integers(values: pd.Series) -> pd.Series:
    if values.isna().any():
        return values.astype(np.float64)
    if values.dtype.kind == "u" and (values > np.iinfo(np.int64).max).any():
        return values.astype(np.float64)
    return values.astype(np.int64)


def _booleans(table: Table, name: str, values: pd.Series) -> pd.Series:
    if values.dtype.kind == "b":
        return values.astype(np.bool_)
    cells = values.dropna().astype(str).str.strip().str.lower()
    cells = cells.replace({"1": "true", "0": "false", "1.0": "true", "0.0": "false"})
    wrong = cells[~cells.isin(list(_TRUTH))]
    if len(wrong):
        raise Invalid(
            "mixed_types",
            f"column '{name}' shall hold true and false, but has '{wrong.iloc[0]:.40}' in "
            + table.places([int(index) for index in wrong.index]),
            field=name,
        )
    truth = cells.map(_TRUTH)
    if len(truth) < len(values):
        return truth.astype(np.float64).reindex(values.index)
    return truth.astype(np.bool_)


def _text(values: pd.Series) -> pd.Series:
    present = values.dropna().astype(str)
    return present.reindex(values.index).astype("str")


def _refuse_dates(name: str, present: pd.Series) -> None:
    if present.dtype.kind in "mM" or hasattr(present.iloc[0], "isoformat"):
        raise Invalid(
            "unsupported_column",
            f"column '{name}' holds dates or times; put it in 'drop', or make numbers of it",
            field=name,
        )
    if isinstance(present.iloc[0], list | dict | tuple | bytes | np.ndarray):
        raise Invalid(
            "unsupported_column",
            f"column '{name}' holds {type(present.iloc[0]).__name__} values; put it in 'drop'",
            field=name,
        )


def _positions(mask: pd.Series) -> Sequence[int]:
    return [int(index) for index in mask.index[mask]]
