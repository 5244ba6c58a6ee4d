import io
import json
from typing import Any

import pytest

from modelyard.cli.rows import CHUNK_ROWS, Row, read_chunks
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import Column

COLUMNS = (
    Column("age", Datatype.FP32),
    Column("count", Datatype.INT64),
    Column("code", Datatype.BYTES),
    Column("country", Datatype.BYTES, categories=("NA", "NO")),
    Column("member", Datatype.BOOL),
)


def read(data: bytes, name: str = "-", **options: Any) -> list[Row]:
    file = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    return [row for chunk in read_chunks(file, name, COLUMNS, **options) for row in chunk]


def test_cells_are_read_as_the_columns_say() -> None:
    """Text stays text, numbers become numbers, and what the model does not know stays text."""
    [row] = read(b"age,count,code,member,extra\n1e1,007,00123,True,5\n")
    assert row == {"age": 10.0, "count": 7, "code": "00123", "member": True, "extra": "5"}


def test_empty_cells_and_their_like_are_missing() -> None:
    """Empty, NA, nan and null are missing, except where the model knows the word."""
    rows = read(b"age,code,country\n,,\nNA,NA,NA\nnan,null,NO\n")
    assert rows == [
        {"age": None, "code": None, "country": None},
        {"age": None, "code": None, "country": "NA"},
        {"age": None, "code": None, "country": "NO"},
    ]


@pytest.mark.parametrize("cell", ["many", "1_000", "1,5"])
def test_what_is_no_number_stays_text(cell: str) -> None:
    """So that the refusal can name row and column."""
    [row] = read(f'age\n"{cell}"\n'.encode())
    assert row == {"age": cell}


def test_flags_are_flags_in_a_column_of_numbers() -> None:
    """Training reads true, false and gaps as numbers; so does this."""
    assert read(b"age\nTrue\nfalse\n") == [{"age": True}, {"age": False}]


def test_a_byte_order_mark_quotes_and_blank_lines_are_understood() -> None:
    """What spreadsheets write is read."""
    rows = read('\ufeffcode,age\r\n"a, ""b""\nc",1\r\n\r\nd,2\r\n'.encode())
    assert rows == [{"code": 'a, "b"\nc', "age": 1}, {"code": "d", "age": 2}]


@pytest.mark.parametrize(
    "text",
    [
        '{"age": 1}\n\n{"age": 2}\n',
        '[{"age": 1}, {"age": 2}]',
        '[\n {"age": 1},\n {"age": 2}\n]\n',
        '\ufeff{"age": 1}\n{"age": 2}',
    ],
)
def test_json_comes_in_lines_or_as_one_list(text: str) -> None:
    """JSON lines, a list, a list over many lines."""
    assert read(text.encode()) == [{"age": 1}, {"age": 2}]


def test_one_object_over_many_lines_is_one_row() -> None:
    """A pretty-printed object."""
    assert read(b'{\n "age": 1\n}\n') == [{"age": 1}]


def test_lists_are_rows_by_position() -> None:
    """JSON lines of lists, for models that take plain numbers."""
    assert read(b"[1, 2]\n[3, 4]\n") == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.tsv", b"code\tage\na,b\t1\n"),
        ("x.csv", b'code,age\n"a,b",1\n'),
        ("-", b'code,age\n"a,b",1'),
    ],
)
def test_the_suffix_tells_the_separator(name: str, data: bytes) -> None:
    """`.tsv` is split by tabs."""
    assert read(data, name) == [{"code": "a,b", "age": 1}]


def test_the_format_asked_for_wins() -> None:
    """`--input-format` over suffix and content."""
    assert read(json.dumps({"age": 1}).encode(), "rows.csv", wanted="json") == [{"age": 1}]


def test_rows_come_in_chunks() -> None:
    """Never more than a chunk is in memory."""
    data = b"age\n" + b"1\n" * (CHUNK_ROWS + 1)
    chunks = read_chunks(io.BytesIO(data), "x.csv", COLUMNS)
    assert [len(chunk) for chunk in chunks] == [CHUNK_ROWS, 1]


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "the input is empty"),
        (b" \n", "the input is empty"),
        (b"age,code\n1\n", "line 2 has 1 cells, the first 2"),
        (b"age,age\n1,2\n", "column 'age' is named twice"),
        (b'age\n"1"2\n', "line 2 is no CSV"),
        (b'{"age": 1}\n{"age"', "line 2 is no JSON"),
        (b"[1, 2", "no JSON"),
        (b'{"age": 1}\n3\n', "a row must be an object"),
        (b"PAR1 and nothing more", "no Parquet"),
        (b"\xff\xfe\x00", "not UTF-8"),
    ],
)
def test_bad_input_is_refused(data: bytes, told: str) -> None:
    """One clear error, with the line where there is one."""
    name = "x.json" if data == b" \n" else "-"
    with pytest.raises(Invalid, match=told):
        read(data, name)
