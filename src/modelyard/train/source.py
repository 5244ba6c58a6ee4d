"""Reads the table that a recipe names: CSV, Parquet, or a query through SQLAlchemy."""

import codecs
import csv
import io
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pandas as pd

from modelyard.bundle.digest import sha256_bytes
from modelyard.bundle.manifest import Dataset
from modelyard.core.errors import Invalid, NotFound
from modelyard.train.columns import typed
from modelyard.train.hints import did_you_mean, quoted
from modelyard.train.recipe import Recipe, Source
from modelyard.train.table import Table, listed, row_numbers


def read_source(recipe: Recipe, base: Path) -> Table:
    """The table of a recipe, its columns typed; paths are taken from `base`.

    Columns that the recipe has no use for are not looked at, whatever they hold. Raises `Invalid`
    naming lines and columns, `NotFound`, `MissingExtra`.
    """
    source = recipe.source
    if source.csv is not None:
        raw = _read_csv(_bytes(base / source.csv), Path(source.csv).name, source)
    elif source.parquet is not None:
        raw = _read_parquet(_bytes(base / source.parquet), Path(source.parquet).name)
    else:
        raw = _read_sql(str(source.sql), str(source.query), base)
    columns = [str(name) for name in raw.frame.columns]
    for where, names in (("drop", recipe.drop), ("source.types", source.types)):
        for name in names:
            if name not in columns:
                raise Invalid(
                    "missing_column",
                    f"the table has no column '{name}', which '{where}' names"
                    + did_you_mean(name, columns),
                    field=name,
                )
    frame = raw.frame[[name for name in columns if _is_wanted(name, recipe)]]
    return typed(Table(frame, raw.dataset, raw.places), source.types, source.decimal)


def _is_wanted(name: str, recipe: Recipe) -> bool:
    if name == recipe.target or name in recipe.validate.columns:
        return True
    return name not in recipe.drop and (recipe.features is None or name in recipe.features)


def redacted(url: str) -> str:
    """A database URL without passwords, in its authority or among its options."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        parsed = make_url(url)
    except ArgumentError:
        return "(not a database URL)"
    secret = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)
    options = {key: "***" if secret.search(key) else value for key, value in parsed.query.items()}
    return parsed.set(query=options).render_as_string(hide_password=True)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound("no_such_table", f"there is no file {path}", field="source") from None
    except OSError as error:
        raise Invalid(
            "bad_table", f"{path} cannot be read: {error.strerror}", field="source"
        ) from None


def _read_csv(data: bytes, name: str, source: Source) -> Table:
    text = _decode(data, name, source.encoding)
    header = next(_records(text, source.separator), (1, []))[1]
    _check_header(header, name)
    _refuse_open_quote(text, name, source.separator)
    frame = _parse_csv(text, header, name, source)
    if frame.empty:
        raise Invalid("no_rows", f"{name} has a header and no rows", field="source")
    return Table(
        frame,
        Dataset(Path(name).stem, name, sha256_bytes(data), len(frame), len(frame.columns)),
        _Lines(text, source.separator),
    )


def _decode(data: bytes, name: str, encoding: str) -> str:
    if not data.strip():
        raise Invalid("empty_file", f"{name} is empty", field="source")
    try:
        # A byte-order mark is no part of the first column's name.
        plain = codecs.lookup(encoding).name == "utf-8"
        text = data.decode("utf-8-sig" if plain else encoding)
    except LookupError:
        raise Invalid(
            "bad_encoding", f"'{encoding}' is no encoding", field="source.encoding"
        ) from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise Invalid(
            "bad_encoding",
            f"{name} is not {encoding}: byte 0x{data[error.start]:02x} in line {line}; set "
            "'encoding' in [source], for instance to 'latin-1', 'cp1252', 'utf-16' or 'gb18030'",
            field="source.encoding",
        ) from None
    if "\0" in text:
        raise Invalid(
            "bad_encoding",
            f"{name} holds NUL characters: it is no text file, or not {encoding}",
            field="source.encoding",
        )
    return text


def _check_header(header: list[str], name: str) -> None:
    for index, column in enumerate(header):
        if not column.strip():
            raise Invalid(
                "unnamed_column",
                f"column {index + 1} of {name} has no name; name it in the header, or write the "
                "file without the row index",
                field="source",
            )
    _refuse_duplicates(header, name)


def _refuse_open_quote(text: str, name: str, separator: str) -> None:
    """A quote that is never closed swallows the rest of the file into one cell."""
    if text.count('"') % 2 == 0:
        return
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        for _ in reader:
            line = reader.line_num + 1
    except csv.Error as error:
        raise Invalid(
            "open_quote", f"line {line} of {name} has a stray quote: {error}", field="source"
        ) from None


def _refuse_duplicates(columns: Sequence[str], name: str) -> None:
    twice = sorted({column for column in columns if columns.count(column) > 1})
    if twice:
        raise Invalid(
            "duplicate_column",
            f"{name} has more than one column called {quoted(twice)}; name each once",
            field=twice[0],
        )


def _parse_csv(text: str, header: list[str], name: str, source: Source) -> pd.DataFrame:
    """Every cell as text, None where missing; kinds are decided later, a whole column at a time."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    misfits = 0

    def skip(_: object) -> str:
        nonlocal misfits
        misfits += 1
        return "skip"

    data = text.encode()
    try:
        table = arrow_csv.read_csv(
            io.BytesIO(data),
            # One block for all: a record may not straddle two, whatever its length.
            read_options=arrow_csv.ReadOptions(use_threads=False, block_size=len(data) + 1),
            parse_options=arrow_csv.ParseOptions(
                delimiter=source.separator, newlines_in_values=True, invalid_row_handler=skip
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                null_values=list(source.missing),
                strings_can_be_null=True,
                quoted_strings_can_be_null="" in source.missing,
            ),
        )
    except pa.ArrowInvalid as error:
        raise Invalid(
            "bad_table", f"{name} is no CSV table: {error!s:.300}", field="source"
        ) from None
    if misfits:
        raise _ragged(text, len(header), name, source.separator)
    frame: pd.DataFrame = table.to_pandas()
    if list(frame.columns) != header:
        raise Invalid("bad_table", f"the header of {name} cannot be read", field="source")
    return frame


def _ragged(text: str, width: int, name: str, separator: str) -> Invalid:
    wrong = [
        (line, len(record)) for line, record in _records(text, separator) if len(record) != width
    ]
    first = f"; line {wrong[0][0]} has {wrong[0][1]}" if wrong else ""
    return Invalid(
        "ragged_rows",
        f"{name} has {width} columns, but other numbers of values in "
        f"{listed('line', [line for line, _ in wrong])}{first}; quote values that hold the "
        f"separator '{separator}'",
        field="source",
    )


def _records(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The line each record begins in, and its cells; empty lines are no records."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    line = 1
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise Invalid("bad_table", f"line {line} is no CSV: {error}", field="source") from None
        if record:
            yield line, record
        line = reader.line_num + 1


class _Lines:
    """Names the lines of records; the file is gone through only when there is something to say."""

    def __init__(self, text: str, separator: str) -> None:
        self._text = text
        self._separator = separator

    def __call__(self, positions: Sequence[int]) -> str:
        lines = [line for line, _ in _records(self._text, self._separator)]
        return listed("line", [lines[position + 1] for position in positions])


def _read_parquet(data: bytes, name: str) -> Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(io.BytesIO(data))
    except (pa.ArrowException, OSError) as error:
        raise Invalid(
            "bad_table", f"{name} is no Parquet file: {error!s:.200}", field="source"
        ) from None
    _refuse_duplicates(table.column_names, name)
    frame: pd.DataFrame = table.to_pandas(ignore_metadata=True)
    if frame.empty:
        raise Invalid("no_rows", f"{name} has no rows", field="source")
    for column in frame.columns:
        if isinstance(frame[column].dtype, pd.CategoricalDtype):
            frame[column] = frame[column].astype(object)
    dataset = Dataset(Path(name).stem, name, sha256_bytes(data), len(frame), len(frame.columns))
    return Table(frame.reset_index(drop=True), dataset, row_numbers)


def _read_sql(url: str, query: str, base: Path) -> Table:
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    filled = _with_environment(url)
    shown = redacted(url)
    try:
        engine = create_engine(_from_base(filled, base))
    except (ArgumentError, ImportError) as error:
        raise Invalid(
            "bad_database_url",
            f"{shown} cannot be used: {str(error).splitlines()[0].replace(filled, shown):.200}",
            field="source.sql",
        ) from None
    try:
        with engine.connect() as connection:
            result = connection.execute(text(query))
            names = list(result.keys())
            rows = [tuple(row) for row in result.fetchall()]
    except SQLAlchemyError as error:
        reason = str(getattr(error, "orig", None) or error).splitlines()[0]
        raise Invalid(
            "query_failed",
            f"the query on {shown} failed: {_without_password(reason, filled):.300}",
            field="source.query",
        ) from None
    finally:
        engine.dispose()
    _refuse_duplicates(names, "the query")
    if not rows:
        raise Invalid("no_rows", "the query gives no rows", field="source.query")
    frame = pd.DataFrame.from_records(rows, columns=names, coerce_float=True)
    dataset = Dataset("query", shown, _content_digest(names, rows), len(frame), len(names))
    return Table(frame, dataset, row_numbers)


def _with_environment(url: str) -> str:
    def value(match: re.Match[str]) -> str:
        found = os.environ.get(match[1])
        if found is None:
            raise Invalid(
                "no_such_variable",
                f"'source.sql' takes ${{{match[1]}}} from the environment, which has none",
                field="source.sql",
            )
        return found

    return re.sub(r"\$\{(\w+)\}", value, url)


def _from_base(url: str, base: Path) -> Any:
    """A relative SQLite file lies beside the recipe, as a CSV file does."""
    from sqlalchemy.engine import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database not in (None, "", ":memory:"):
        file = base / str(parsed.database)
        if not file.is_file():
            # SQLite would make an empty database of a misspelt name.
            raise NotFound("no_such_table", f"there is no file {file}", field="source.sql")
        return parsed.set(database=str(file))
    return parsed


def _without_password(reason: str, url: str) -> str:
    from sqlalchemy.engine import make_url

    password = make_url(url).password
    return reason.replace(str(password), "***") if password else reason


def _content_digest(names: Sequence[str], rows: Sequence[tuple[object, ...]]) -> str:
    """sha256 over the column names and each row in turn, as JSON."""
    encoder = msgspec.json.Encoder(enc_hook=str)
    return sha256_bytes(encoder.encode_lines([list(names), *(list(row) for row in rows)]))
