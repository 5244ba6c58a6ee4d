"""Both clients against a real server."""

import inspect
import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.client import AsyncClient, Client
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid, NotFound
from modelyard.testing.serving import FunctionRuntime, Serving, endpoint_of
from tests.unit.client.conftest import by_first_column, table

FRAME = pd.DataFrame({"size": [7, 8, 9], "score": [0.25, 0.75, 0.5], "age": [1.0, 2.0, 3.0]})
ORDERED = FRAME[["score", "age", "size"]]
LABELS = ["low", "high", "low"]
ROWS: dict[str, Any] = {
    "a frame, its columns in any order": FRAME,
    "a frame with a column too many": FRAME.assign(name=["x", "y", "z"]),
    "a list of dicts": FRAME.to_dict("records"),
    "a list of dicts of numpy's numbers": [
        {name: np.float32(value) for name, value in row.items()} for row in FRAME.to_dict("records")
    ],
    "a dict of lists": FRAME.to_dict("list"),
    "a dict of arrays": {name: FRAME[name].to_numpy() for name in FRAME},
    "a dict of series": dict(FRAME.items()),
    "an array": ORDERED.to_numpy(),
    "an array of float32": ORDERED.to_numpy(np.float32),
    "a list of lists": ORDERED.to_numpy().tolist(),
    "a dict of the model's own tensor": {"input": ORDERED.to_numpy()},
}


@pytest.mark.parametrize("case", ROWS)
def test_predict_takes_every_kind_of_rows(client: Any, case: str) -> None:
    """However the rows are held, the labels are the same, one a row."""
    labels = client.predict("grade", ROWS[case])
    assert labels.shape == (3,)
    assert labels.tolist() == LABELS


def test_predict_takes_one_row(client: Any) -> None:
    """A single dict of values is one row."""
    labels = client.predict("grade", {"score": 0.9, "age": np.int64(1), "size": 2})
    assert labels.tolist() == ["high"]


def test_predict_of_no_rows(client: Any) -> None:
    """No rows in, no labels out."""
    assert client.predict("grade", FRAME.head(0)).shape == (0,)
    assert client.predict("grade", []).shape == (0,)


def test_predict_proba(client: Any) -> None:
    """One row of probabilities for each row, its classes named by the metadata."""
    probabilities = client.predict_proba("grade", FRAME)
    np.testing.assert_array_equal(
        probabilities, np.float32([[0.75, 0.25], [0.25, 0.75], [0.5, 0.5]])
    )
    output = client.metadata("grade")["outputs"][1]
    assert [column["name"] for column in output["parameters"]["columns"]] == ["low", "high"]


def test_probabilities_of_a_regression_are_refused(client: Any) -> None:
    """A model without probabilities says so, before anything is sent."""
    with pytest.raises(Invalid, match=r"use predict\(\)"):
        client.predict_proba("mixed", [])


MIXED = pd.DataFrame(
    {
        "city": ["Oslo", "Rom", "Rom"],
        "age": [30.0, None, 50.0],
        "children": [0, 1, 2],
        "income": [1.0, 2.0, 3.0],
    }
)
EXPECTED = [40.0, 11_019.0, 21_080.0]
MIXED_FRAMES: dict[str, Any] = {
    "as read": MIXED,
    "categorical": MIXED.astype({"city": "category"}),
    "nullable": MIXED.convert_dtypes(),
    "objects": MIXED.astype(object),
    "records with None": [
        {"city": "Oslo", "age": 30, "children": 0, "income": 1},
        {"city": "Rom", "age": None, "children": 1, "income": 2},
        {"city": "Rom", "age": 50.0, "children": np.int8(2), "income": np.float64(3)},
    ],
}


@pytest.mark.parametrize("case", MIXED_FRAMES)
def test_predict_takes_mixed_columns(client: Any, case: str) -> None:
    """Text, whole numbers and missing values arrive, in every dtype that pandas has for them."""
    values = client.predict("mixed", MIXED_FRAMES[case])
    assert values.dtype == np.float64
    assert values.tolist() == EXPECTED


@pytest.mark.parametrize("rows", [MIXED.to_numpy(), MIXED.to_numpy().tolist()])
def test_values_without_names_are_refused_where_they_are_ambiguous(client: Any, rows: Any) -> None:
    """Several input tensors do not keep the order of the table's columns: names are needed."""
    with pytest.raises(Invalid, match="'age', 'income', 'city', 'children'") as refused:
        client.predict("mixed", rows)
    assert refused.value.code == "names_needed"


def test_frames_without_pandas() -> None:
    """Importing and using the client imports neither pandas nor, before a client is made, httpx."""
    code = (
        "import sys, modelyard.client\n"
        "heavy = {'pandas', 'httpx', 'asyncio', 'msgspec', 'orjson'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "modelyard.client.Client('http://127.0.0.1:1').is_live()\n"
        "assert 'pandas' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


TENSORS: dict[Datatype, Array] = {
    Datatype.BOOL: np.array([[True, False]]),
    Datatype.BYTES: np.array([["größe", ""], ["\0", "x" * 300]], object),
    Datatype.FP16: np.array([[1.5, np.nan]], np.float16),
    Datatype.FP32: np.array([[1.5, np.inf]], np.float32),
    Datatype.FP64: np.array([[np.pi, -0.0]]),
    **{
        datatype: np.array(
            [[np.iinfo(datatype.dtype).min, np.iinfo(datatype.dtype).max]], datatype.dtype
        )
        for datatype in Datatype
        if datatype.is_integer
    },
}


@pytest.mark.parametrize("datatype", Datatype)
def test_infer_carries_every_datatype(client: Any, datatype: Datatype) -> None:
    """Binary both ways: the same dtype, shape and values come back, as arrays of one's own."""
    sent = TENSORS[datatype]
    back = client.infer(f"echo_{datatype}", {"x": sent})["y"]
    assert back.dtype == sent.dtype
    np.testing.assert_array_equal(back, sent)
    assert back.flags.writeable


def test_infer_casts_where_no_value_changes(client: Any) -> None:
    """Numpy's default float64 and int64 become what the model takes."""
    outputs = client.infer("net", {"x": [[1, 2]]})
    assert outputs["total"].tolist() == [3.0]
    assert client.infer("net", {"x": np.array([[1.5, 2.5]])})["y"].tolist() == [[3.0, 5.0]]


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        (Datatype.INT8, [[128]]),
        (Datatype.UINT8, [[-1]]),
        (Datatype.INT64, [[0.5]]),
        (Datatype.INT64, [[np.nan]]),
        (Datatype.FP16, [[1e6]]),
        (Datatype.FP32, [[1e300]]),
        (Datatype.BYTES, [[1]]),
        (Datatype.FP32, [["1"]]),
    ],
)
def test_infer_never_changes_a_value(client: Any, datatype: Datatype, values: Any) -> None:
    """What the model's datatype cannot hold is refused, with the tensor's name."""
    with pytest.raises(Invalid) as refused:
        client.infer(f"echo_{datatype}", {"x": np.array(values)})
    assert refused.value.field == "x"


def test_infer_gives_the_outputs_asked_for(client: Any) -> None:
    """Only those named, or all."""
    x = np.ones((1, 2), np.float32)
    assert list(client.infer("net", {"x": x})) == ["y", "total"]
    assert list(client.infer("net", {"x": x}, outputs=["total"])) == ["total"]
    with pytest.raises(Invalid, match="no output 'median'") as refused:
        client.infer("net", {"x": x}, outputs=["median"])
    assert refused.value.code == "unknown_output"


def test_a_model_with_several_outputs_has_no_one_prediction(client: Any) -> None:
    """predict() does not guess among outputs; it names them."""
    with pytest.raises(Invalid, match="'y', 'total'"):
        client.predict("net", np.ones((1, 2)))


def test_a_version_can_be_asked_for(client: Any) -> None:
    """The number of the version that is served answers; another is not found."""
    assert client.predict("grade", FRAME, version=1).tolist() == LABELS
    with pytest.raises(NotFound) as refused:
        client.predict("grade", FRAME, version=2)
    assert refused.value.code == "unknown_version"


ERRORS: dict[str, tuple[str, Any, type[Exception], str, str | None]] = {
    "unknown model": ("no model", [], NotFound, "unknown_model", "model"),
    "missing column": ("grade", [{"score": 1, "age": 1}], Invalid, "missing_column", "size"),
    "text for a number": (
        "grade",
        [{"score": "1", "age": 1, "size": 1}],
        Invalid,
        "wrong_datatype",
        "score",
    ),
    "missing value": ("grade", FRAME.assign(age=np.nan), Invalid, "not_finite", "age"),
    "unseen category": ("mixed", MIXED.assign(city="Bern"), Invalid, "unseen_category", "city"),
    "too few columns": ("grade", np.ones((1, 2)), Invalid, "wrong_shape", "input"),
    "one axis": ("grade", np.ones(3), Invalid, "wrong_rank", "input"),
    "ragged lists": ("grade", [[1, 2, 3], [1]], Invalid, "ragged_rows", "rows"),
    "ragged columns": ("grade", {"score": [[1], [1, 2]]}, Invalid, "bad_column", "score"),
    "no table": ("grade", "rows", Invalid, "bad_rows", "rows"),
    "a column twice": (
        "grade",
        pd.concat([FRAME, FRAME[["age"]]], axis=1),
        Invalid,
        "repeated_column",
        "age",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_an_error_is_of_its_class(client: Any, case: str) -> None:
    """What the server or the client refuses is raised with class, code and field."""
    model, rows, kind, code, field = ERRORS[case]
    with pytest.raises(kind) as refused:
        client.predict(model, rows)
    assert (refused.value.code, refused.value.field) == (code, field)  # type: ignore[attr-defined]


def test_what_the_server_says_of_itself(client: Any) -> None:
    """Health, readiness, the index and a model's metadata."""
    assert client.is_live()
    assert client.is_ready()
    assert client.is_ready("grade")
    assert not client.is_ready("nothing")
    lines = {line["name"]: line for line in client.models()}
    assert lines["grade"]["state"] == "READY"
    metadata = client.metadata("grade", version=1)
    assert metadata["versions"] == ["1"]
    assert metadata["parameters"]["task"] == "classification"


@pytest.mark.parametrize(
    "names", [("age", "size", "score"), ("score", "age"), ("score", "colour", "size", "age")]
)
def test_a_deployment_between_calls_never_mixes_columns(
    connect: Any, server: Serving, names: tuple[str, ...]
) -> None:
    """A client that knows one version answers rightly from the next, whose columns differ."""
    frame = FRAME.assign(colour=0.0)
    first = FunctionRuntime(table("score", "age", "size"), by_first_column)
    second = FunctionRuntime(table(*names), by_first_column)
    install = server.exchange.install

    def swap(runtime: FunctionRuntime, version: int) -> None:
        server.on_loop(lambda: install(endpoint_of(runtime, model="moving", version=version)))

    swap(first, 1)
    client = connect(server.url)
    assert client.predict("moving", frame).tolist() == LABELS
    swap(second, 2)
    wanted = by_first_column({"input": frame[list(names)].to_numpy(np.float32)})["label"]
    assert client.predict("moving", frame).tolist() == wanted.tolist()
    swap(FunctionRuntime(table("score", "age", "size"), by_first_column), 3)
    assert client.predict("moving", frame).tolist() == LABELS


def test_a_known_signature_is_not_asked_for_again(server: Serving) -> None:
    """The second call is one request."""
    with Client(server.url) as client:
        sent = []
        send = client._transport.send
        client._transport.send = lambda request: sent.append(request.path) or send(request)  # type: ignore[method-assign, func-returns-value]
        for _ in range(3):
            client.predict("grade", FRAME)
    assert sent == ["/v2/models/grade", *["/v2/models/grade/infer"] * 3]


def test_both_clients_have_the_same_methods() -> None:
    """What one can do, the other can, with the same arguments."""
    public = {name for name in vars(Client) if not name.startswith("_")}
    assert public == {name for name in vars(AsyncClient) if not name.startswith("_")}
    for name in public:
        sync, asynchronous = getattr(Client, name), getattr(AsyncClient, name)
        assert inspect.signature(sync) == inspect.signature(asynchronous)


def test_an_address_without_scheme_is_refused(connect: Any) -> None:
    """The commonest slip gets its own sentence."""
    with pytest.raises(Invalid, match="write http://host:port"):
        connect("127.0.0.1:8080")
