"""The same rows in every format, answered here or by a server: the estimator's own answers."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression

from modelyard.yard import Yard


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    plain = frame.astype(object).where(frame.notna(), None)
    return plain.to_dict("records")  # type: ignore[return-value]


def _write_csv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False)


def _write_tsv(frame: pd.DataFrame, path: Path) -> None:
    frame.to_csv(path, index=False, sep="\t")


def _write_lines(frame: pd.DataFrame, path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in _records(frame)))


def _write_list(frame: pd.DataFrame, path: Path) -> None:
    path.write_text(json.dumps(_records(frame), indent=1))


def _write_parquet(frame: pd.DataFrame, path: Path) -> None:
    frame.to_parquet(path)


FORMATS: dict[str, Callable[[pd.DataFrame, Path], None]] = {
    "rows.csv": _write_csv,
    "rows.tsv": _write_tsv,
    "rows.jsonl": _write_lines,
    "rows.json": _write_list,
    "rows.parquet": _write_parquet,
}


def _parse_json(text: bytes) -> tuple[list[str], np.ndarray]:
    answers = [json.loads(line) for line in text.splitlines()]
    labels = [answer["prediction"] for answer in answers]
    return labels, np.array([list(answer["probabilities"].values()) for answer in answers])


def _check(answers: tuple[list[str], np.ndarray], estimator: Any, frame: pd.DataFrame) -> None:
    labels, chances = answers
    assert labels == estimator.predict(frame).tolist()
    np.testing.assert_allclose(chances, estimator.predict_proba(frame), atol=1e-5)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_estimators_answers(
    leavers: Any, published: Any, tmp_path: Path, name: str
) -> None:
    """CSV, TSV, JSON lines, a JSON list and Parquet: missing values, and text that looks like
    numbers, arrive as they were.
    """
    FORMATS[name](published.frame, tmp_path / name)
    done = leavers("predict", "leavers", "--input", tmp_path / name)
    _check(_parse_json(done.stdout), published.estimators[0], published.frame)
    assert done.stderr == b""


def test_csv_comes_out_with_a_column_for_each_class(leavers: Any, published: Any) -> None:
    """`--format csv`: the prediction and each probability, one heading line."""
    rows = published.frame.to_csv(index=False).encode()
    done = leavers("predict", "leavers", "--input", "-", "--format", "csv", input=rows)
    lines = list(csv.DictReader(io.StringIO(done.stdout.decode())))
    estimator = published.estimators[0]
    assert list(lines[0]) == ["prediction", "probability_leaves", "probability_stays"]
    assert [line["prediction"] for line in lines] == estimator.predict(published.frame).tolist()
    np.testing.assert_allclose(
        [float(line["probability_leaves"]) for line in lines],
        estimator.predict_proba(published.frame)[:, 0],
        atol=1e-5,
    )


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet"])
def test_what_is_piped_in_is_recognised(
    leavers: Any, published: Any, tmp_path: Path, name: str
) -> None:
    """`--input -` tells CSV, JSON and Parquet by their first bytes."""
    frame = published.frame[:7]
    FORMATS[name](frame, tmp_path / name)
    done = leavers("predict", "leavers", "--input", "-", input=(tmp_path / name).read_bytes())
    _check(_parse_json(done.stdout), published.estimators[0], frame)


def test_versions_and_aliases_choose_the_model(leavers: Any, published: Any) -> None:
    """`:2` asks version 2, `@champion` what the alias names."""
    rows = published.frame.to_csv(index=False).encode()
    for reference, estimator in zip(
        ("leavers@champion", "leavers:2"), published.estimators, strict=True
    ):
        done = leavers("predict", reference, "--input", "-", input=rows)
        _check(_parse_json(done.stdout), estimator, published.frame)


def test_a_server_gives_the_same_answers(
    leavers: Any, published: Any, start_server: Callable[..., Any], tmp_path: Path
) -> None:
    """Through `--server` and MODELYARD_SERVER; `--local` answers here all the same."""
    server = start_server(leavers.home)
    path = tmp_path / "rows.csv"
    published.frame.to_csv(path, index=False)
    asked = ("predict", "leavers", "--input", path)
    elsewhere = {"MODELYARD_HOME": str(tmp_path / "nowhere")}
    here = leavers(*asked, "--local", MODELYARD_SERVER="http://127.0.0.1:9").stdout
    told = leavers(*asked, "--server", server.url, **elsewhere).stdout
    _check(_parse_json(told), published.estimators[0], published.frame)
    assert leavers(*asked, MODELYARD_SERVER=server.url).stdout == told
    assert _parse_json(here)[0] == _parse_json(told)[0]


def test_a_server_does_not_know_aliases(leavers: Any) -> None:
    """A server answers for versions: said before anything is sent."""
    done = leavers(
        "predict", "leavers@champion", "--input", "-", "--server", "http://127.0.0.1:9", status=1
    )
    assert b"a server answers for versions" in done.stderr


def test_a_server_that_is_not_there_is_one_line(leavers: Any) -> None:
    """Connection refused is told in a sentence."""
    done = leavers("predict", "leavers", "--input", "-", "--server", "http://127.0.0.1:9", status=1)
    assert len(done.stderr.splitlines()) == 1
    assert b"http://127.0.0.1:9" in done.stderr


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (b"", "the input is empty"),
        (b"age,visits,code\n1,2,3\n", "column 'member' is missing"),
        (b"age,visits,code,member\n1,many,0456,true\n", "column 'visits' has 'many' in row 0"),
    ],
)
def test_bad_rows_are_named(leavers: Any, rows: bytes, told: str) -> None:
    """Whatever is wrong with the input, one line says where."""
    done = leavers("predict", "leavers", "--input", "-", input=rows, status=1)
    [line] = done.stderr.decode().splitlines()
    assert line.startswith("error: ")
    assert told in line


def test_many_rows_go_in_chunks(leavers: Any, published: Any, tmp_path: Path) -> None:
    """25,000 rows come back in order; a wrong row of a later chunk has its true number."""
    frame = published.frame.loc[published.frame.index.repeat(105)].reset_index(drop=True)
    path = tmp_path / "rows.csv"
    frame.to_csv(path, index=False)
    done = leavers("predict", "leavers", "--input", path)
    labels = [json.loads(line)["prediction"] for line in done.stdout.splitlines()]
    assert labels == published.estimators[0].predict(frame).tolist()
    with path.open("a") as file:
        file.write("1.0,none,0456,true\n")
    late = leavers("predict", "leavers", "--input", path, status=1)
    assert b"column 'visits' has 'none' in row 25200" in late.stderr


def test_what_the_model_refuses_in_a_later_chunk_has_its_true_number(
    modelyard: Any, tmp_path: Path
) -> None:
    """A value that the signature refuses only after it was read is counted in the whole file."""
    frame = pd.DataFrame({"age": [1.0, 2.0, 3.0, 4.0]})
    with Yard.open(modelyard.home) as yard:
        model = LinearRegression().fit(frame, frame["age"])
        yard.publish(model, name="line", sample=frame)
    path = tmp_path / "rows.csv"
    path.write_text("age\n" + "1.5\n" * 10_002 + "NA\n")
    done = modelyard("predict", "line:1", "--input", path, status=1)
    assert b"column 'age' is missing, NaN or infinite in row 10002" in done.stderr
