"""Rows from files, a chunk at a time: CSV, JSON (lines, a list, one object) and Parquet.

A CSV has no types, so its cells are read as the model's columns say: `00123` stays text where the
model takes text. An empty cell is a missing value, and so is `NA` and its like, as in training,
unless the model knows that very word as a category.
"""

import codecs
import csv
import io
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final, Literal

from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid, MissingExtra, NotFound
from modelyard.core.signature import Column

Row = Mapping[str, object] | Sequence[object]
Chunk = list[Row]
InputFormat = Literal["csv", "tsv", "json", "parquet"]

CHUNK_ROWS: Final = 10_000
_SUFFIXES: Final[dict[str, InputFormat]] = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
    ".pq": "parquet",
}
_MISSING: Final = frozenset({"", "NA", "N/A", "NaN", "nan", "null", "NULL"})
_WORDS: Final = {"true": True, "false": False}
_FLAGS: Final = {**_WORDS, "1": True, "0": False}


def open_input(name: str) -> BinaryIO:
    """The file of that name, or what is piped in where it is `-`."""
    if name == "-":
        import sys

        return sys.stdin.buffer
    try:
        return Path(name).open("rb")
    except (FileNotFoundError, IsADirectoryError):
        raise NotFound("no_such_file", f"there is no file {name}", field=name) from None


def read_chunks(
    file: BinaryIO, name: str, columns: Sequence[Column], wanted: InputFormat | None = None
) -> Iterator[Chunk]:
    """Rows in chunks of 10,000; the format is told by the suffix, or else by the first bytes.

    Raises `Invalid` naming the line at fault.
    """
    buffered = io.BufferedReader(file) if isinstance(file, io.RawIOBase) else file
    kind = wanted or _SUFFIXES.get(Path(name).suffix.lower()) or _sniff(buffered)
    if kind == "parquet":
        return _read_parquet(buffered)
    if kind == "json":
        return _chunked(_read_json(buffered))
    return _chunked(_read_csv(buffered, columns, "\t" if kind == "tsv" else ","))


def _sniff(file: BinaryIO) -> InputFormat:
    head: bytes = file.peek(64) if isinstance(file, io.BufferedReader) else b""
    if head.startswith(b"PAR1"):
        return "parquet"
    return "json" if head.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[") else "csv"


def _chunked(rows: Iterator[Row]) -> Iterator[Chunk]:
    while chunk := list(itertools.islice(rows, CHUNK_ROWS)):
        yield chunk


def _read_csv(file: BinaryIO, columns: Sequence[Column], separator: str) -> Iterator[Row]:
    readers = {column.name: _cell_reader(column) for column in columns}
    with io.TextIOWrapper(file, "utf-8-sig", newline="") as text:
        lines = csv.reader(text, delimiter=separator, strict=True)
        try:
            headings = next(lines, None)
            if headings is None:
                raise Invalid("empty_input", "the input is empty; its first line names the columns")
            twice = next((name for name in headings if headings.count(name) > 1), None)
            if twice is not None:
                raise Invalid("bad_input", f"column '{twice}' is named twice", field=twice)
            reads = [readers.get(name, str) for name in headings]
            for cells in lines:
                if not cells:
                    continue
                if len(cells) != len(headings):
                    raise Invalid(
                        "bad_input",
                        f"line {lines.line_num} has {len(cells)} cells, the first {len(headings)}",
                    )
                yield {
                    name: read(cell)
                    for name, read, cell in zip(headings, reads, cells, strict=True)
                }
        except csv.Error as error:
            raise Invalid("bad_input", f"line {lines.line_num} is no CSV: {error}") from None
        except UnicodeDecodeError:
            raise Invalid("bad_input", "the input is not UTF-8 text") from None


def _cell_reader(column: Column) -> Callable[[str], object]:
    if column.datatype is Datatype.BYTES:
        missing = _MISSING - set(column.categories or ())
        return lambda cell: None if cell in missing else cell
    parse = _parse_boolean if column.datatype is Datatype.BOOL else _parse_number
    # What does not parse goes on as text, so that the refusal names its row and column.
    return lambda cell: None if cell.strip() in _MISSING else parse(cell)


def _parse_boolean(cell: str) -> object:
    return _FLAGS.get(cell.strip().lower(), cell)


def _parse_number(cell: str) -> object:
    # Python reads `1_000` as a number; no table means that.
    if "_" in cell:
        return cell
    try:
        return int(cell)
    except ValueError:
        pass
    try:
        return float(cell)
    except ValueError:
        # Training reads a column of true, false and gaps as numbers.
        return _WORDS.get(cell.strip().lower(), cell)


def _read_json(file: BinaryIO) -> Iterator[Row]:
    import msgspec

    decode = msgspec.json.decode
    lines = enumerate(file, start=1)
    first = next(((number, line) for number, line in lines if line.strip()), None)
    if first is None:
        raise Invalid("empty_input", "the input is empty")
    number, line = first[0], first[1].removeprefix(codecs.BOM_UTF8)
    try:
        value = decode(line)
    except msgspec.DecodeError:
        # One value over many lines, as a pretty printer leaves it.
        yield from _rows_of(_decode_whole(line + b"".join(rest for _, rest in lines)))
        return
    yield from _rows_of(value)
    for number, line in lines:
        if not line.strip():
            continue
        try:
            yield from _rows_of(decode(line))
        except msgspec.DecodeError as error:
            raise Invalid("bad_input", f"line {number} is no JSON: {error}") from None


def _decode_whole(data: bytes) -> object:
    import msgspec

    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError as error:
        raise Invalid("bad_input", f"the input is no JSON: {error}") from None


def _rows_of(value: object) -> Iterator[Row]:
    """A list of objects holds rows; anything else is one row."""
    if isinstance(value, list) and all(isinstance(each, dict) for each in value):
        yield from value
    elif isinstance(value, dict | list):
        yield value
    else:
        raise Invalid(
            "bad_input", f"a row must be an object of columns, not {type(value).__name__}"
        )


def _read_parquet(file: BinaryIO) -> Iterator[Chunk]:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("sklearn", "reading Parquet") from None
    try:
        source = parquet.ParquetFile(file if file.seekable() else io.BytesIO(file.read()))
        for batch in source.iter_batches(batch_size=CHUNK_ROWS):
            yield batch.to_pylist()
    except pyarrow.ArrowInvalid as error:
        raise Invalid("bad_input", f"the input is no Parquet: {error}") from None
