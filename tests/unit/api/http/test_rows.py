import json
from typing import Any

import httpx
import pytest

from modelyard.testing.serving import Serving

OLD = {"age": 60, "income": None, "city": "Rome"}
YOUNG = {"city": "Oslo", "age": 20.5, "income": 1, "ignored": [1]}


def post(server: Serving, path: str, body: object) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(server.url + path, content=content)


def test_one_row_gets_one_prediction(server: Serving) -> None:
    """An object of columns is answered with its label and its probabilities by class."""
    assert post(server, "/predict/people", OLD).json() == {
        "prediction": "old",
        "probabilities": {"old": 0.75, "young": 0.25},
        "model": "people",
        "version": 1,
    }


@pytest.mark.parametrize(
    "body",
    [
        [OLD, YOUNG],
        {"instances": [OLD, YOUNG]},
        {"inputs": {"age": [60, 20.5], "income": [None, 1], "city": ["Rome", "Oslo"]}},
        {"inputs": [OLD, YOUNG]},
        {"columns": ["city", "age", "income"], "data": [["Rome", 60, None], ["Oslo", 20.5, 1]]},
        {
            "dataframe_split": {
                "index": [0, 1],
                "columns": ["city", "age", "income"],
                "data": [["Rome", 60, None], ["Oslo", 20.5, 1]],
            }
        },
        {"dataframe_records": [OLD, YOUNG]},
        [[60, None, "Rome"], [20.5, 1, "Oslo"]],
    ],
)
@pytest.mark.parametrize("path", ["/predict/people", "/v1/models/people:predict"])
def test_many_rows_get_many_predictions_in_every_shape(
    server: Serving, path: str, body: object
) -> None:
    """Lists, instances, columns and pandas' split form all mean the same table."""
    answer = post(server, path, body).json()
    assert answer["predictions"] == ["old", "young"]
    assert answer["probabilities"][1] == {"old": 0.25, "young": 0.75}


def test_v1_always_answers_predictions(server: Serving) -> None:
    """The v1 contract knows no single row."""
    assert post(server, "/v1/models/people:predict", OLD).json()["predictions"] == ["old"]


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ({"instances": [[1, 2, 3], [4, 5, 6]]}, [[2, 4, 6], [8, 10, 12]]),
        ([[1, 2, 3]], [[2, 4, 6]]),
        ({"instances": [{"x": [1, 2, 3]}]}, [[2, 4, 6]]),
        ({"inputs": {"x": [[1, 2, 3]]}}, [[2, 4, 6]]),
        ({"instances": []}, []),
    ],
)
def test_tensors_without_columns_are_rows_too(
    server: Serving, body: object, values: list[Any]
) -> None:
    """A model of plain tensors takes instances of nested numbers."""
    assert post(server, "/v1/models/vector:predict", body).json()["predictions"] == values


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"", "not_json", None),
        (b"nonsense", "not_json", None),
        (b"7", "bad_rows", None),
        (b'"x"', "bad_rows", None),
        ({"instances": 7}, "bad_rows", None),
        ({"inputs": {"age": 7}}, "bad_rows", "age"),
        ({"age": 1, "city": "Rome"}, "missing_column", "income"),
        ([OLD, {**OLD, "age": "sixty"}], "wrong_datatype", "age"),
        ({**OLD, "age": None}, "not_finite", "age"),
        ({**OLD, "age": float("nan")}, "not_finite", "age"),
        ({**OLD, "age": float("inf")}, "not_finite", "age"),
        ({**OLD, "city": "Paris"}, "unseen_category", "city"),
        ({**OLD, "city": 7}, "wrong_datatype", "city"),
        ([OLD, 7], "bad_row", "rows[1]"),
        ([[60, None]], "bad_row", "rows[0]"),
        ({"columns": ["age", "age"], "data": [[1, 2]]}, "bad_rows", None),
        ({"columns": ["age"], "data": [[1, 2]]}, "bad_row", "rows[0]"),
        ({"columns": "age", "data": []}, "bad_rows", None),
        ({"inputs": {"age": [1], "income": [1, 2], "city": ["Rome"]}}, "unequal_rows", None),
    ],
)
def test_what_is_wrong_is_named(
    server: Serving, body: object, code: str, field: str | None
) -> None:
    """Each way of being wrong is a 400 with its own code and the column or row at fault."""
    response = post(server, "/predict/people", body)
    found = response.json()
    assert (response.status_code, found["code"], found.get("field")) == (400, code, field)
    assert post(server, "/predict/people", OLD).status_code == 200


@pytest.mark.parametrize(
    "body", [{"instances": [[1, 2]]}, {"instances": [[[1]]]}, {"instances": 3}, {"x": 1}, [7]]
)
def test_tensors_that_do_not_fit_are_refused(server: Serving, body: object) -> None:
    """Nested numbers of another shape are a 400."""
    assert post(server, "/v1/models/vector:predict", body).status_code == 400


@pytest.mark.parametrize("path", ["/predict/people", "/v2/models/people/infer"])
@pytest.mark.parametrize(
    "body",
    [
        b'[{"age": 1, "income": NaN, "city": "\\udfff"}]',
        b'{"inputs": [{"name": "\\ud800", "datatype": "FP32", "shape": [1], "data": [NaN]}]}',
        b'{"id": "\\ud800", "inputs": [], "parameters": {"a": NaN}}',
    ],
)
def test_half_a_surrogate_is_no_json(server: Serving, path: str, body: bytes) -> None:
    """A NaN makes a body be read leniently, but not so leniently that no answer can be written."""
    response = httpx.post(server.url + path, content=body)
    assert response.status_code == 400
    assert response.json()["code"] in ("not_json", "bad_request")


def test_v1_answers_columns_with_outputs_too(server: Serving) -> None:
    """TensorFlow Serving's clients read `outputs` where they sent `inputs`, KServe's do not."""
    inputs = {"age": [60, 20.5], "income": [None, 1], "city": ["Rome", "Oslo"]}
    answer = post(server, "/v1/models/people:predict", {"inputs": inputs}).json()
    assert answer["predictions"] == ["old", "young"]
    assert answer["outputs"] == {
        "label": ["old", "young"],
        "probabilities": [[0.75, 0.25], [0.25, 0.75]],
    }
    only = post(server, "/v1/models/vector:predict", {"inputs": [[1, 2, 3]]}).json()
    assert only["outputs"] == only["predictions"] == [[2, 4, 6]]


@pytest.mark.parametrize("name", ["", "serving_default", None])
def test_v1_knows_one_signature(server: Serving, name: str | None) -> None:
    """The default one may be named; others are not there."""
    body = {"signature_name": name, "instances": [OLD]}
    assert post(server, "/v1/models/people:predict", body).json()["predictions"] == ["old"]
    other = post(server, "/v1/models/people:predict", body | {"signature_name": "other"})
    assert (other.status_code, other.json()["code"]) == (400, "unknown_signature")


def test_v1_takes_rows_or_columns(server: Serving) -> None:
    """Both at once is no request."""
    body = {"instances": [OLD], "inputs": {"age": [1]}}
    answer = post(server, "/v1/models/people:predict", body)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_rows")


def test_v1_reads_base64(server: Serving) -> None:
    """A string may come as `{"b64": …}`; what is no base64, or no text, is refused."""
    path = "/v1/models/people:predict"
    row = OLD | {"city": {"b64": "Um9tZQ=="}}
    assert post(server, path, {"instances": [row]}).json()["predictions"] == ["old"]
    columns = {"age": [60], "income": [None], "city": [{"b64": "Um9tZQ=="}]}
    assert post(server, path, {"inputs": columns}).json()["predictions"] == ["old"]
    for value, code in (("%", "bad_base64"), ("/w==", "not_utf8")):
        answer = post(server, path, {"instances": [OLD | {"city": {"b64": value}}]})
        assert (answer.status_code, answer.json()["code"]) == (400, code)
