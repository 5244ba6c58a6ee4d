import sqlite3
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from modelyard.bundle.digest import sha256_file
from modelyard.core.errors import Invalid, NotFound
from modelyard.train.recipe import parse_recipe
from modelyard.train.source import read_source, redacted
from modelyard.train.table import Table


def read(folder: Path, data: str | bytes, **sections: object) -> Table:
    raw = data.encode() if isinstance(data, str) else data
    (folder / "t.csv").write_bytes(raw)
    return read_from(folder, {"csv": "t.csv", **sections.pop("source", {})}, **sections)  # type: ignore[dict-item]


def read_from(folder: Path, source: dict[str, object], **sections: object) -> Table:
    algorithm = {"name": "knn"}
    document = {"name": "m", "target": "y", "source": source, "algorithm": algorithm, **sections}
    return read_source(parse_recipe(document), folder)


def test_columns_become_what_they_hold(tmp_path: Path) -> None:
    """Numbers, whole numbers, truth and text; a gap makes numbers of whole numbers and truth."""
    table = read(
        tmp_path,
        "f,i,b,s,gap_i,gap_b,gap_s,y\n1.5,1,true,a,,TRUE,,1\n2,2,False,b,2,,x,2\n",
    )
    assert table.frame.dtypes.astype(str).to_dict() == {
        "f": "float64",
        "i": "int64",
        "b": "bool",
        "s": "str",
        "gap_i": "float64",
        "gap_b": "float64",
        "gap_s": "str",
        "y": "int64",
    }
    assert np.isnan(table.frame["gap_b"].iloc[1])
    assert table.frame["gap_b"].iloc[0] == 1.0
    assert pd.isna(table.frame["gap_s"].iloc[0])


@pytest.mark.parametrize("sign", ["", "+"])
def test_numbers_are_the_nearest_floats(tmp_path: Path, sign: str) -> None:
    """The same bits that Python, and so the JSON of a caller, reads from the same digits."""
    cells = ["0.1", "2.2250738585072014e-308", "1.7976931348623157e308", "123456.7890123456789"]
    cells += [repr(value) for value in np.random.default_rng(0).normal(size=200).tolist()]
    cells[0] = sign + cells[0]
    lines = [f"{cell},1" for cell in cells]
    table = read(tmp_path, "a,y\n" + "\n".join(lines))
    assert table.frame["a"].tolist() == [float(cell) for cell in cells]


def test_digits_with_leading_zeros_stay_text(tmp_path: Path) -> None:
    """A post code is a name made of digits."""
    assert read(tmp_path, "code,y\n01067,1\n80331,2\n").frame["code"].tolist() == ["01067", "80331"]


@pytest.mark.parametrize(
    ("kind", "cells", "expected"),
    [
        ("text", "1,2", ["1", "2"]),
        ("number", "1,2", [1.0, 2.0]),
        ("integer", "1,2", [1, 2]),
        ("boolean", "1,0", [True, False]),
    ],
)
def test_a_type_that_is_given_overrules_what_is_seen(
    tmp_path: Path, kind: str, cells: str, expected: list[object]
) -> None:
    """`types` decides, and the dtype follows."""
    first, second = cells.split(",")
    table = read(tmp_path, f"a,y\n{first},1\n{second},2\n", source={"types": {"a": kind}})
    values = table.frame["a"].tolist()
    assert values == expected
    assert [type(value) for value in values] == [type(value) for value in expected]


def test_separator_decimal_encoding_and_missing_are_taken_from_the_recipe(tmp_path: Path) -> None:
    """A table as a spreadsheet of Central Europe writes it."""
    table = read(
        tmp_path,
        "größe;ort;y\n1,5;Köln;1\n?;Ulm;2\n".encode("cp1252"),
        source={"separator": ";", "decimal": ",", "encoding": "cp1252", "missing": ["?"]},
    )
    assert table.frame["größe"].iloc[0] == 1.5
    assert np.isnan(table.frame["größe"].iloc[1])
    assert table.frame["ort"].tolist() == ["Köln", "Ulm"]


def test_a_byte_order_mark_is_no_part_of_a_name(tmp_path: Path) -> None:
    """Spreadsheets write one before the header."""
    assert list(read(tmp_path, b"\xef\xbb\xbfa,y\n1,2\n").frame.columns) == ["a", "y"]


def test_quoted_cells_hold_separators_and_line_ends(tmp_path: Path) -> None:
    """And the lines after them are still counted by the file."""
    table = read(tmp_path, 'a,y\n"x,\ny",1\n\nz,2\n')
    assert table.frame["a"].tolist() == ["x,\ny", "z"]
    assert table.places([0, 1]) == "lines 2 and 5"


def test_a_column_nobody_needs_may_hold_anything(tmp_path: Path) -> None:
    """A dropped column is not looked at, not even for its types."""
    table = read(tmp_path, "junk,a,y\n1,1,1\n2,1,2\nx,1,3\n", drop=["junk"])
    assert list(table.frame.columns) == ["a", "y"]


def test_the_fingerprint_is_of_the_files_bytes(tmp_path: Path) -> None:
    """So that anybody can check it with sha256sum."""
    dataset = read(tmp_path, "a,y\n1,2\n").dataset
    assert dataset.sha256 == sha256_file(tmp_path / "t.csv")
    assert (dataset.name, dataset.source, dataset.rows, dataset.columns) == ("t", "t.csv", 1, 2)


@pytest.mark.parametrize(
    ("data", "code", "says"),
    [
        ("", "empty_file", "t.csv is empty"),
        ("  \n\n", "empty_file", "t.csv is empty"),
        ("a,y\n", "no_rows", "a header and no rows"),
        ("a,a,y\n1,2,3\n", "duplicate_column", "'a'"),
        (",a,y\n0,1,2\n", "unnamed_column", "column 1"),
        ("a,y\n1,2\n3\n4,5,6\n7,8\n", "ragged_rows", "lines 3 and 4; line 3 has 1"),
        ("a,y\né,2\n".encode("latin-1"), "bad_encoding", "byte 0xe9 in line 2"),
        ("a,y\n1,2\n".encode("utf-16"), "bad_encoding", "encoding"),
        (b"a,y\n1,\x00\n", "bad_encoding", "NUL"),
        ("a,y\n1,1\n2,1\nx,1\n4,1\n?,1\n", "mixed_types", "'x' in lines 4 and 6"),
        ('a,y\n1,1\n2,"1\n3,1\n', "open_quote", "line 3"),
    ],
)
def test_a_bad_file_is_one_clear_error(
    tmp_path: Path, data: str | bytes, code: str, says: str
) -> None:
    """Each names what is wrong and where."""
    with pytest.raises(Invalid) as caught:
        read(tmp_path, data)
    assert caught.value.code == code
    assert says in caught.value.message


@pytest.mark.parametrize(
    ("kind", "cell", "says"),
    [
        ("integer", "1.5", "whole numbers, but has 1.5 in line 3"),
        ("boolean", "maybe", "'maybe' in line 3"),
        ("number", "many", "'many' in line 3"),
    ],
)
def test_a_cell_that_is_not_of_the_type_given_is_named(
    tmp_path: Path, kind: str, cell: str, says: str
) -> None:
    """With its line and what it holds."""
    with pytest.raises(Invalid) as caught:
        read(tmp_path, f"a,y\n1,2\n{cell},3\n", source={"types": {"a": kind}})
    assert says in caught.value.message
    assert caught.value.field == "a"


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    """With its key."""
    with pytest.raises(Invalid, match="no encoding") as caught:
        read(tmp_path, "a,y\n1,2\n", source={"encoding": "utf-9"})
    assert caught.value.field == "source.encoding"


@pytest.mark.parametrize("where", ["drop", "types"])
def test_a_column_that_is_not_there_cannot_be_named(tmp_path: Path, where: str) -> None:
    """A misspelt column in `drop` would leave an identifier among the features."""
    sections = (
        {"drop": ["colour"]} if where == "drop" else {"source": {"types": {"colour": "text"}}}
    )
    with pytest.raises(Invalid, match="did you mean 'color'"):
        read(tmp_path, "color,y\n1,2\n", **sections)


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    """Any kind of file."""
    for kind in ("csv", "parquet"):
        with pytest.raises(NotFound, match=r"none\.file"):
            read_from(tmp_path, {kind: "none.file"})
    with pytest.raises(NotFound, match=r"none\.db"):
        read_from(tmp_path, {"sql": "sqlite:///none.db", "query": "SELECT 1"})


def test_parquet_gives_the_same_table(tmp_path: Path) -> None:
    """Categories are text, and rows are named by number."""
    frame = pd.DataFrame(
        {
            "s": pd.Categorical(["a", None, "b"]),
            "n": [1.5, np.nan, 2.0],
            "i": pd.array([1, None, 3], "Int64"),
            "b": [True, False, True],
            "y": [1, 2, 3],
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_from(tmp_path, {"parquet": "t.parquet"})
    assert table.frame.dtypes.astype(str).tolist() == ["str", "float64", "float64", "bool", "int64"]
    assert table.places([0, 2]) == "rows 1 and 3"
    assert table.dataset.sha256 == sha256_file(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    "values",
    [pd.to_datetime(["2026-01-01", "2026-01-02"]), [[1], [2]], [b"a", b"b"]],
    ids=["dates", "lists", "bytes"],
)
def test_columns_that_no_table_of_a_model_has_are_refused(tmp_path: Path, values: object) -> None:
    """Unless they are dropped."""
    pd.DataFrame({"when": values, "y": [1, 2]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(Invalid, match="'when' holds"):
        read_from(tmp_path, {"parquet": "t.parquet"})
    assert list(read_from(tmp_path, {"parquet": "t.parquet"}, drop=["when"]).frame.columns) == ["y"]


def test_a_broken_parquet_file_is_refused(tmp_path: Path) -> None:
    """Its name is in the message."""
    (tmp_path / "t.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(Invalid, match=r"t\.parquet is no Parquet file"):
        read_from(tmp_path, {"parquet": "t.parquet"})


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE t (a REAL, s TEXT, y INTEGER)")
        connection.executemany("INSERT INTO t VALUES (?, ?, ?)", [(1.5, "x", 1), (None, None, 2)])
    connection.close()
    return path


def test_a_query_gives_a_table(database: Path) -> None:
    """A relative SQLite file lies beside the recipe; gaps are gaps."""
    source = {"sql": "sqlite:///shop.db", "query": "SELECT * FROM t"}
    table = read_from(database.parent, source)
    assert table.frame["a"].isna().tolist() == [False, True]
    assert table.frame["s"].isna().tolist() == [False, True]
    assert table.frame.dtypes.astype(str).tolist() == ["float64", "str", "int64"]


def test_the_fingerprint_of_a_query_is_of_its_content(database: Path) -> None:
    """The same rows have the same one, another row another, however the query is written."""

    def digest(query: str) -> str:
        source = {"sql": "sqlite:///shop.db", "query": query}
        return read_from(database.parent, source).dataset.sha256

    assert digest("SELECT * FROM t") == digest("SELECT a, s, y FROM t ORDER BY y")
    assert digest("SELECT * FROM t") != digest("SELECT * FROM t WHERE y = 1")


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("SELECT a, a FROM t", "duplicate_column"),
        ("SELECT * FROM t WHERE y > 9", "no_rows"),
        ("SELECT * FROM none", "query_failed"),
        ("SELEKT", "query_failed"),
    ],
)
def test_a_bad_query_is_one_clear_error(database: Path, query: str, code: str) -> None:
    """What the database says, without a stack of ours."""
    with pytest.raises(Invalid) as caught:
        read_from(database.parent, {"sql": "sqlite:///shop.db", "query": query})
    assert caught.value.code == code


def test_passwords_are_never_shown() -> None:
    """Neither in the authority of a URL nor among its options."""
    shown = redacted("postgresql://me:hunter2@host/db?sslpassword=hunter3&connect_timeout=5")
    assert "hunter" not in shown
    assert "me:***@host/db" in shown
    assert "connect_timeout=5" in shown
    assert "hunter" not in redacted("not a url hunter2")


def test_a_secret_is_taken_from_the_environment(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one that is not there is named."""
    source = {"sql": "sqlite:///${SHOP_DB}", "query": "SELECT * FROM t"}
    with pytest.raises(Invalid, match="SHOP_DB"):
        read_from(database.parent, source)
    monkeypatch.setenv("SHOP_DB", "shop.db")
    assert len(read_from(database.parent, source).frame) == 2


def test_a_driver_that_is_not_installed_is_said_without_the_password(tmp_path: Path) -> None:
    """The message has the redacted URL."""
    source = {"sql": "oracle+cx_oracle://me:hunter2@host/db", "query": "SELECT 1"}
    with pytest.raises(Invalid, match=r"me:\*\*\*@host") as caught:
        read_from(tmp_path, source)
    assert "hunter2" not in caught.value.message
