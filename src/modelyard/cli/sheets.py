"""Rows of results as a table, CSV, JSON or Parquet, on stdout or in a file."""

import csv
import io
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

from modelyard.cli.screen import say_table

Format = Literal["table", "csv", "json", "parquet"]
_ROWS_AT_ONCE: Final = 65_536
_CURRENCY_PLACES: Final = 9
_AMOUNT_PLACES: Final = 6


@dataclass(frozen=True)
class Sheet:
    """Rows with the same columns; each may come only when it is asked for."""

    rows: Iterable[Mapping[str, Any]]
    columns: Sequence[str]


def write_sheet(sheet: Sheet | Mapping[str, Any], form: Format, out: Path | None) -> None:
    """Write rows, or one JSON document, to a file or to stdout.

    JSON of rows is one line for each. Raises `MissingExtra` for Parquet without pyarrow.
    """
    if form == "table" and out is None and isinstance(sheet, Sheet):
        say_table(sheet.columns, [[row[name] for name in sheet.columns] for row in sheet.rows])
        return
    with _sink(out) as sink:
        for chunk in _encoded(sheet, form, sink):
            sink.write(chunk)


@contextmanager
def _sink(out: Path | None) -> Iterator[BinaryIO]:
    if out is None:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    with out.open("wb") as file:
        yield file


def _encoded(sheet: Sheet | Mapping[str, Any], form: Format, sink: BinaryIO) -> Iterator[bytes]:
    import msgspec

    if not isinstance(sheet, Sheet):
        yield msgspec.json.encode(sheet) + b"\n"
    elif form == "json":
        for row in sheet.rows:
            yield msgspec.json.encode(row) + b"\n"
    elif form == "parquet":
        _write_parquet(sheet, sink)
    else:
        yield from _csv(sheet)


def _csv(sheet: Sheet) -> Iterator[bytes]:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(sheet.columns)
    for row in sheet.rows:
        writer.writerow([_cell(row[name]) for name in sheet.columns])
        if text.tell() > _ROWS_AT_ONCE:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
    yield text.getvalue().encode()


def _cell(value: Any) -> Any:
    import datetime

    return value.isoformat() if isinstance(value, datetime.datetime) else value


def _write_parquet(sheet: Sheet, sink: BinaryIO) -> None:
    from modelyard.core.errors import MissingExtra

    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingExtra("sklearn", "writing Parquet") from error
    moment = pa.timestamp("us", tz="UTC")
    types = {
        "version": pa.int32(),
        "day": moment,
        "hour": moment,
        "arrived": moment,
        "calls": pa.int64(),
        "ok": pa.int64(),
        "rows": pa.int64(),
        "took_us": pa.int64(),
        "took_s": pa.float64(),
        "amount": pa.decimal128(38, _AMOUNT_PLACES),
        "cost": pa.decimal128(38, _CURRENCY_PLACES),
    }
    schema = pa.schema([(name, types.get(name, pa.string())) for name in sheet.columns])
    with pq.ParquetWriter(sink, schema) as writer:
        for rows in _chunks(sheet.rows):
            columns = {name: [_number(row, name) for row in rows] for name in sheet.columns}
            writer.write_table(pa.table(columns, schema=schema))


def _number(row: Mapping[str, Any], name: str) -> Any:
    """A cell; what was written as a decimal text is a decimal again."""
    from decimal import Decimal

    return Decimal(row[name]) if name in ("amount", "cost") else row[name]


def _chunks(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    chunk: list[Mapping[str, Any]] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _ROWS_AT_ONCE:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
