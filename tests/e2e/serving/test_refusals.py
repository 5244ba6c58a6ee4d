"""Every way of asking wrongly, over HTTP and gRPC: a clear refusal, and the server goes on."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from sklearn.compose import ColumnTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from tritonclient.utils import InferenceServerException

from modelyard.core.datatypes import Datatype
from tests.e2e.conftest import Server, serving
from tests.e2e.serving.conftest import Place
from tests.zoo import mixed_table

NAMES = ["income", "visits"]
ROW = {"income": 20_000.0, "visits": 3, "plan": "gold"}


@pytest.fixture(scope="module")
def strict(place: Place) -> Iterator[Place]:
    """A model that takes neither missing values nor categories that it has not seen."""
    table, score = mixed_table()
    table = table[[*NAMES, "plan"]].astype({"plan": "str"})
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), NAMES), ("words", OneHotEncoder(), ["plan"])]
    )
    estimator = Pipeline([("columns", columns), ("estimator", LogisticRegression())])
    place.publish(estimator.fit(table, score > 0), name="strict", sample=table)
    yield place
    answer = httpx.post(f"{place.server.url}/predict/strict", json=ROW)
    assert answer.status_code == 200, answer.text


def tensors(place: Place, **changes: Any) -> list[dict[str, Any]]:
    """The v2 inputs of one good row, with changes by input name; None leaves one out."""
    values: dict[str, Any] = {name: [value] for name, value in ROW.items()}
    inputs = []
    for spec in place.client.metadata("strict")["inputs"]:
        tensor = {
            "name": spec["name"],
            "datatype": spec["datatype"],
            "shape": [1, 1],
            "data": values[spec["name"]],
        }
        change = changes.pop(spec["name"], {})
        if change is not None:
            inputs.append(tensor | change)
    inputs.extend(changes.values())
    return inputs


def test_the_good_row_is_answered(strict: Place) -> None:
    """What the refusals below change is a request that works."""
    response = httpx.post(
        f"{strict.server.url}/v2/models/strict/infer", json={"inputs": tensors(strict)}
    )
    assert response.status_code == 200, response.text


V2 = "/v2/models/strict/infer"


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "field"),
    [
        ("/v2/models/nobody/infer", {}, 404, "not_found", "model"),
        ("/v2/models/strict/versions/9/infer", {}, 404, "not_found", "version"),
        ("/predict/nobody", {}, 404, "not_found", "model"),
        ("/v1/models/nobody:predict", {}, 404, "not_found", "model"),
        (V2, {"visitors": {"name": "visitors", "datatype": "FP32", "shape": [1], "data": [1]}},
         400, "invalid", "visitors"),
        (V2, {"visits": None}, 400, "invalid", "visits"),
        (V2, {"income": {"datatype": "BYTES", "data": ["a"]}}, 400, "invalid", "income"),
        (V2, {"income": {"data": ["a"]}}, 400, "invalid", "income"),
        (V2, {"income": {"shape": [1, 1, 1]}}, 400, "invalid", "income"),
        (V2, {"income": {"shape": [1, 2], "data": [1, 2]}}, 400, "invalid", "income"),
        (V2, {"income": {"shape": [2, 1], "data": [1, 2]}}, 400, "invalid", "visits"),
        (V2, {"income": {"data": [1, 2]}}, 400, "invalid", "income"),
        (V2, {"income": {"data": [None]}}, 400, "invalid", "income"),
        (V2, {"plan": {"data": ["platinum"]}}, 400, "invalid", "plan"),
        ("/predict/strict", b"{not json", 400, "invalid", None),
        ("/predict/strict", b"", 400, "invalid", None),
        ("/predict/strict", {"plan": "gold"}, 400, "invalid", "income"),
        ("/predict/strict", ROW | {"plan": "platinum"}, 400, "invalid", "plan"),
        ("/predict/strict", ROW | {"income": None}, 400, "invalid", "income"),
        ("/predict/strict", ROW | {"visits": 2.5}, 400, "invalid", "visits"),
        ("/predict/strict", ROW | {"income": "much"}, 400, "invalid", "income"),
    ],
)  # fmt: skip
def test_a_wrong_http_request_is_refused(
    strict: Place, path: str, body: Any, status: int, kind: str, field: str | None
) -> None:
    """Each is a 4xx with kind, code, message and field; none is a 500 or shows a stack trace."""
    if path == V2:
        body = {"inputs": tensors(strict, **body)}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(strict.server.url + path, content=content)
    said = response.json()
    assert (response.status_code, said["kind"], said.get("field")) == (status, kind, field), said
    assert said["code"]
    assert len(said["error"]) > 10
    assert "Traceback" not in response.text


@pytest.mark.parametrize(
    ("model", "change", "status", "words"),
    [
        ("nobody", {}, "NOT_FOUND", "no model 'nobody'"),
        ("strict", {"income": ("BYTES", np.array([["a"]], object))}, "INVALID_ARGUMENT", "income"),
        ("strict", {"income": (None, np.zeros((2, 1)))}, "INVALID_ARGUMENT", "rows"),
        ("strict", {"income": (None, np.zeros((1, 1, 1)))}, "INVALID_ARGUMENT", "shape"),
        ("strict", {"income": (None, np.array([[np.nan]]))}, "INVALID_ARGUMENT", "income"),
        ("strict", {"plan": ("BYTES", np.array([["x"]], object))}, "INVALID_ARGUMENT", "plan"),
        ("strict", {"plan": None}, "INVALID_ARGUMENT", "plan"),
    ],
)
def test_a_wrong_grpc_request_is_refused(
    strict: Place, model: str, change: dict[str, Any], status: str, words: str
) -> None:
    """The same refusals have gRPC's own statuses."""
    with triton_grpc.InferenceServerClient(strict.server.grpc_address) as client:
        inputs = []
        for spec in strict.client.metadata("strict")["inputs"]:
            changed = change.get(spec["name"], ())
            if changed is None:
                continue
            datatype, array = changed or (None, np.array([[ROW[spec["name"]]]]))
            datatype = datatype or spec["datatype"]
            given = triton_grpc.InferInput(spec["name"], list(array.shape), datatype)
            given.set_data_from_numpy(array.astype(Datatype(datatype).dtype))
            inputs.append(given)
        with pytest.raises(InferenceServerException, match=words) as caught:
            client.infer(model, inputs)
        assert caught.value.status() == f"StatusCode.{status}"


def test_a_body_over_the_configured_limit_is_refused(place: Place) -> None:
    """The limit is a setting, over HTTP and over gRPC."""
    with serving(place.yard.config.home, MODELYARD_MAX_BODY_BYTES="2048") as small:
        assert isinstance(small, Server)
        response = httpx.post(f"{small.url}/predict/any", content=b" " * 3000)
        assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
        with triton_grpc.InferenceServerClient(small.grpc_address) as client:
            given = triton_grpc.InferInput("x", [3000], "UINT8")
            given.set_data_from_numpy(np.zeros(3000, np.uint8))
            with pytest.raises(InferenceServerException) as caught:
                client.infer("any", [given])
            assert caught.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
            assert client.is_server_live()
