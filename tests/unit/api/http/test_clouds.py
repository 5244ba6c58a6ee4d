import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from modelyard.api.http.contracts import Contracts
from modelyard.testing.serving import FunctionRuntime, Serving, serving
from tests.unit.api.http.conftest import TABLE, VECTOR, tell_age

ROWS = [
    {"age": 60, "income": None, "city": "Rome"},
    {"age": 20.5, "income": 1, "city": "Oslo"},
]
LISTS = [[60, None, "Rome"], [20.5, 1, "Oslo"]]
WANTED = ["old", "young"]
CSV = "text/csv"
LINES = "application/jsonlines"


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    runtimes = {
        "people": FunctionRuntime(TABLE, tell_age),
        "vector": FunctionRuntime(VECTOR, lambda inputs: {"y": inputs["x"] * 2}),
    }
    contracts = Contracts("people", "/alive", "/models/7:predict")
    with serving(runtimes, contracts=contracts) as running:
        yield running


Post = Callable[..., httpx.Response]


@pytest.fixture
def post(server: Serving) -> Post:
    def send(path: str, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, str | bytes) else json.dumps(body)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return httpx.post(server.url + path, content=content, headers=named)

    return send


@pytest.mark.parametrize(
    "body",
    [
        "age,income,city\n60,,Rome\n20.5,1,Oslo\n",
        'city,age,unknown,income\r\n"Rome",60,x,nan\r\n"Oslo",20.5,"a,b",1\r\n',
        "60,,Rome\n20.5,1,Oslo",
        "\ufeff60.0,NA,Rome\n\n2.05e1,1.0,Oslo\n",
        " 60 ,null,Rome\n+20.5,true,Oslo\n",
    ],
)
def test_csv_is_read_with_and_without_a_header(post: Post, body: str) -> None:
    """A first line with every column's name is a header; else columns come in their order."""
    answer = post("/invocations", body.encode(), content_type="text/csv; charset=utf-8")
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == WANTED


def test_csv_that_says_what_its_first_line_is_is_believed(post: Post) -> None:
    """RFC 4180's parameter of the content type decides."""
    body = "age,income,city\n60,,Rome\n"
    answer = post("/invocations", body, content_type="text/csv; header=present")
    assert answer.json()["predictions"] == ["old"]
    answer = post("/invocations", body, content_type="text/csv; header=absent")
    assert (answer.status_code, answer.json()["field"]) == (400, "age")


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        ("60,Rome\n", "bad_row", "rows[0]"),
        ("60,1,Rome\n60,1\n", "bad_row", "rows[1]"),
        ("old,1,Rome\n", "wrong_datatype", "age"),
        ("1_0,1,Rome\n", "wrong_datatype", "age"),
        ("٣,1,Rome\n", "wrong_datatype", "age"),
        ("inf,1,Rome\n", "wrong_datatype", "age"),
        ("1e999,1,Rome\n", "not_finite", "age"),
        (",1,Rome\n", "not_finite", "age"),
        ("60,1,Paris\n", "unseen_category", "city"),
        ("age,age,city,income\n1,2,3,4\n", "bad_csv", None),
        ('60,1,"Rome\n', "bad_csv", None),
        (b"60,1,\xff\n", "bad_csv", None),
    ],
)
def test_what_is_wrong_in_csv_is_named(
    post: Post, body: str | bytes, code: str, field: str | None
) -> None:
    """Each cell is judged as the same value in JSON would be."""
    answer = post("/invocations", body, content_type=CSV)
    assert (answer.status_code, answer.json()["code"]) == (400, code)
    assert answer.json().get("field") == field


@pytest.mark.parametrize("content_type", [LINES, "application/x-ndjson", "application/jsonl"])
@pytest.mark.parametrize(
    "rows", [ROWS, LISTS, [{"features": row} for row in LISTS]], ids=["rows", "lists", "features"]
)
def test_json_lines_hold_a_row_each(post: Post, content_type: str, rows: list[Any]) -> None:
    """Objects of columns, lists, and SageMaker's features; empty lines are none."""
    body = "\n\n".join(json.dumps(row) for row in rows) + "\n"
    assert post("/invocations", body, content_type=content_type).json()["predictions"] == WANTED


@pytest.mark.parametrize(
    "body",
    [
        ROWS,
        LISTS,
        {"instances": ROWS},
        {"instances": [{"features": row} for row in LISTS]},
        {"inputs": {"age": [60, 20.5], "income": [None, 1], "city": ["Rome", "Oslo"]}},
    ],
)
@pytest.mark.parametrize("content_type", ["application/json", ""])
def test_json_holds_rows_in_any_shape(post: Post, content_type: str, body: Any) -> None:
    """What every other contract of rows takes; without a word on it a body is JSON."""
    headers = {"content_type": content_type} if content_type else {}
    assert post("/invocations", body, **headers).json()["predictions"] == WANTED


@pytest.mark.parametrize(
    ("accept", "kind", "text"),
    [
        ("text/csv", CSV, "old\nyoung\n"),
        ("text/*", CSV, "old\nyoung\n"),
        ("text/csv;q=0.5, application/jsonlines", LINES, None),
        ("application/x-ndjson", LINES, None),
        ("*/*", "application/json", None),
        ("image/png, */*;q=0.1", "application/json", None),
    ],
)
def test_the_answer_comes_as_accept_says(
    post: Post, accept: str, kind: str, text: str | None
) -> None:
    """CSV, JSON Lines or JSON, by the header's weights."""
    answer = post("/invocations", ROWS, accept=accept)
    assert answer.headers["content-type"].startswith(kind)
    if text is not None:
        assert answer.text == text
    if kind == LINES:
        lines = [json.loads(line) for line in answer.text.splitlines()]
        assert [line["prediction"] for line in lines] == WANTED
        assert lines[0]["probabilities"] == {"old": 0.75, "young": 0.25}


def test_types_that_there_are_not_are_refused(post: Post) -> None:
    """An image is no table (415), and no answer is an image (406)."""
    assert post("/invocations", ROWS, content_type="image/png").status_code == 415
    assert post("/invocations", ROWS, accept="image/png").status_code == 406


def test_a_model_without_columns_takes_csv_of_numbers(post: Post) -> None:
    """One row of its tensor a line; the header names the model, as a multi-model endpoint's."""
    target = {"x_amzn_sagemaker_target_model": "/vector.tar.gz"}
    answer = post("/invocations", "1,2,3\n4,5,6\n", content_type=CSV, accept=CSV, **target)
    assert answer.text == "2.0,4.0,6.0\n8.0,10.0,12.0\n"
    answer = post("/invocations", "1,2\n", content_type=CSV, **target)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_row")


def test_custom_attributes_come_back(post: Post) -> None:
    """What SageMaker's caller sends along is in the answer's header."""
    name = "x-amzn-sagemaker-custom-attributes"
    assert post("/invocations", ROWS, **{name: "trace=7"}).headers[name] == "trace=7"


def test_vertex_gets_predictions_and_nothing_else(post: Post) -> None:
    """The route that the platform has chosen takes instances and answers predictions."""
    for instances in (ROWS, LISTS):
        body = {"instances": instances, "parameters": {"timeout": 10_000_000}}
        assert post("/models/7:predict", body).json() == {"predictions": WANTED}
    assert post("/models/7:predict", {"instances": ROWS}).status_code == 200


@pytest.mark.parametrize(
    "body", [ROWS, {"rows": ROWS}, {"instances": 3}, {"instances": ROWS, "parameters": []}]
)
def test_vertex_takes_nothing_but_instances(post: Post, body: Any) -> None:
    """A body of another shape is refused."""
    assert post("/models/7:predict", body).status_code == 400


@pytest.mark.parametrize(
    "body",
    [
        {"data": ROWS},
        {"data": LISTS},
        {"input_data": {"columns": ["city", "age", "income"], "index": [0, 1],
                        "data": [["Rome", 60, None], ["Oslo", 20.5, 1]]}},
        {"input_data": {"age": [60, 20.5], "income": [None, 1], "city": ["Rome", "Oslo"]}},
        {"columns": ["city", "age", "income"], "data": [["Rome", 60, None], ["Oslo", 20.5, 1]]},
        ROWS,
    ],
)  # fmt: skip
def test_azure_scores_rows_in_its_wrappings(post: Post, body: Any) -> None:
    """`data`, MLflow's `input_data`, and what every other contract of rows takes."""
    answer = post("/score", body, x_ms_client_request_id="7")
    assert answer.json()["predictions"] == WANTED
    assert answer.headers["x-ms-client-request-id"] == "7"


@pytest.mark.parametrize("path", ["/ping", "/alive", "/v2/health/ready"])
def test_health_is_told_on_the_clouds_paths(server: Serving, path: str) -> None:
    """GET and HEAD say 200 of a server that answers; nothing else may be done there."""
    assert httpx.get(server.url + path).json() == {"ready": True}
    assert httpx.head(server.url + path).status_code == 200
    assert httpx.put(server.url + path).status_code == 405


def test_only_post_calls_a_model(server: Serving) -> None:
    """Paths of calls say which method they take."""
    for path in ("/invocations", "/score"):
        answer = httpx.get(server.url + path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


def test_azure_finds_the_document(server: Serving) -> None:
    """By its older name, in the version there is."""
    assert "/score" in httpx.get(f"{server.url}/swagger.json").json()["paths"]
    assert httpx.get(f"{server.url}/swagger.json?version=3").status_code == 200
    assert httpx.get(f"{server.url}/swagger.json?version=2").status_code == 404


def test_which_model_must_be_clear() -> None:
    """The only one is meant; of several none, and an empty server has none."""
    people = FunctionRuntime(TABLE, tell_age)
    for runtimes, status, code in (
        ({}, 404, "no_model"),
        ({"a": people}, 200, None),
        ({"a": people, "b": people}, 400, "which_model"),
    ):
        with serving(runtimes) as server:  # type: ignore[arg-type]
            answer = httpx.post(f"{server.url}/invocations", json=ROWS)
            assert (answer.status_code, answer.json().get("code")) == (status, code)
