"""One table over every protocol: the same rows give the same answer, whatever carries them."""

import io
import json
from collections.abc import Callable
from typing import Any

import grpc
import httpx
import numpy as np
import pandas as pd
import pytest
import tritonclient.grpc
import tritonclient.http
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelyard import Client
from modelyard.api.grpc import messages
from modelyard.client.tables import to_tensors
from modelyard.core.datatypes import Datatype
from modelyard.core.names import Reference
from tests.e2e.conftest import Server
from tests.e2e.serving.conftest import Place
from tests.zoo import mixed_table

NAME = "everywhere"
Road = Callable[[Server, pd.DataFrame, dict[str, np.ndarray]], list[str]]


def sample() -> tuple[pd.DataFrame, np.ndarray]:
    """Strings, categories, numbers, whole numbers, truth values, dates, and missing ones."""
    table, score = mixed_table(300)
    days = pd.date_range("2024-01-01", periods=4).strftime("%Y-%m-%d")
    table["day"] = [days[index % 4] for index in range(len(table))]
    score = score + np.where(table["day"] == days[0], 1.5, 0) + table["member"]
    return table, np.array(["low", "middle", "high"])[np.digitize(score, [0.0, 1.0])]


@pytest.fixture(scope="module")
def told(place: Place) -> tuple[Server, pd.DataFrame, dict[str, np.ndarray], list[str]]:
    """The server, the table, its tensors, and what the estimator itself says of it."""
    table, target = sample()
    words = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="none"),
        OneHotEncoder(handle_unknown="ignore"),
    )
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer(
        [
            ("numbers", numbers, ["age", "income", "visits", "member"]),
            ("words", words, ["city", "plan", "day"]),
        ]
    )
    table = table.astype({"plan": "str", "day": "str", "member": "bool"})
    estimator = Pipeline([("columns", columns), ("estimator", LogisticRegression(max_iter=3000))])
    estimator.fit(table, target)
    place.publish(estimator, name=NAME, sample=table)
    rows = table.head(40)
    assert rows["age"].isna().any()
    assert rows["city"].isna().any()
    with place.yard.load(Reference(NAME)) as local:
        tensors = to_tensors(local.signature, rows)
    labels = [str(label) for label in estimator.predict(rows)]
    assert len(set(labels)) == 3
    return place.server, rows, tensors, labels


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    found = table.astype(object).where(table.notna(), None).to_dict("records")
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def said(response: httpx.Response) -> list[str]:
    assert response.status_code == 200, response.text
    return list(response.json()["predictions"])


def over_rows(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    return said(httpx.post(f"{server.url}/predict/{NAME}", json=records(table)))


def over_v1_instances(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    body = {"instances": records(table), "signature_name": "serving_default"}
    return said(httpx.post(f"{server.url}/v1/models/{NAME}:predict", json=body))


def over_v1_inputs(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    columns = {name: [row[name] for row in records(table)] for name in table.columns}
    answer = httpx.post(f"{server.url}/v1/models/{NAME}:predict", json={"inputs": columns})
    assert answer.json()["outputs"]["label"] == said(answer)
    return said(answer)


def over_split(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    rows = [list(row.values()) for row in records(table)]
    body = {"dataframe_split": {"columns": list(table.columns), "data": rows}}
    return said(httpx.post(f"{server.url}/predict/{NAME}", json=body))


def over_v2_tensors(server: Server, _: object, tensors: dict[str, np.ndarray]) -> list[str]:
    """Tensors as the signature has them, missing numbers as null."""
    inputs = [
        {
            "name": name,
            "datatype": Datatype.of(array.dtype),
            "shape": array.shape,
            "data": json_values(array),
        }
        for name, array in tensors.items()
    ]
    return v2_labels(server, json.dumps({"inputs": inputs}).encode(), {})


def over_v2_columns(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    """One tensor a column, in the column's own kind, missing ones as null."""
    inputs = [
        {
            "name": name,
            "datatype": datatype_of(table[name]),
            "shape": [len(table)],
            "data": [row[name] for row in records(table)],
        }
        for name in table.columns
    ]
    return v2_labels(server, json.dumps({"inputs": inputs}).encode(), {})


def over_triton_http_columns(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    """One binary tensor a column."""
    with tritonclient.http.InferenceServerClient(f"{server.host}:{server.port}") as client:
        return triton_labels(client, tritonclient.http, table)


def over_triton_grpc_columns(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    """The same over gRPC."""
    with tritonclient.grpc.InferenceServerClient(server.grpc_address) as client:
        return triton_labels(client, tritonclient.grpc, table)


def over_triton_grpc(server: Server, _: object, tensors: dict[str, np.ndarray]) -> list[str]:
    """Raw tensors as the signature has them."""
    with tritonclient.grpc.InferenceServerClient(server.grpc_address) as client:
        inputs = []
        for name, array in tensors.items():
            tensor = tritonclient.grpc.InferInput(
                name, list(array.shape), Datatype.of(array.dtype).value
            )
            tensor.set_data_from_numpy(array)
            inputs.append(tensor)
        return [label.decode() for label in client.infer(NAME, inputs).as_numpy("label")]


def over_grpc_contents(server: Server, _: object, tensors: dict[str, np.ndarray]) -> list[str]:
    """Typed contents: BYTES, BOOL and numbers each in their own field."""
    fields = {
        Datatype.BYTES: "bytes_contents",
        Datatype.BOOL: "bool_contents",
        Datatype.FP32: "fp32_contents",
        Datatype.FP64: "fp64_contents",
        Datatype.INT64: "int64_contents",
    }
    request = messages.ModelInferRequest(model_name=NAME)
    for name, array in tensors.items():
        datatype = Datatype.of(array.dtype)
        tensor = request.inputs.add(name=name, datatype=datatype, shape=array.shape)
        values = array.reshape(-1).tolist()
        if datatype is Datatype.BYTES:
            values = [value.encode() for value in values]
        getattr(tensor.contents, fields[datatype]).extend(values)
    with grpc.insecure_channel(server.grpc_address) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            request_serializer=messages.ModelInferRequest.SerializeToString,
            response_deserializer=messages.ModelInferResponse.FromString,
        )
        answer = infer(request, timeout=30)
    (label,) = [each for each in answer.outputs if each.name == "label"]
    return [value.decode() for value in label.contents.bytes_contents]


def over_csv(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    text = io.StringIO()
    table.to_csv(text, index=False)
    return csv_labels(server, text.getvalue())


def over_csv_without_header(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    columns = [
        column["name"]
        for spec in httpx.get(f"{server.url}/v2/models/{NAME}").json()["inputs"]
        for column in spec["parameters"]["columns"]
    ]
    text = io.StringIO()
    table[columns].to_csv(text, index=False, header=False)
    return csv_labels(server, text.getvalue())


def over_json_lines(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    body = "\n".join(json.dumps(row) for row in records(table))
    return said(invoke(server, body, "application/jsonlines"))


def over_score(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    # The path names no model, and this server has several: the header that says which is for all.
    headers = {"x-amzn-sagemaker-target-model": NAME}
    body = {"input_data": {name: [r[name] for r in records(table)] for name in table.columns}}
    return said(httpx.post(f"{server.url}/score", json=body, headers=headers))


def over_the_client(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    with Client(server.url) as client:
        return [str(label) for label in client.predict(NAME, table)]


def over_the_client_with_dates(server: Server, table: pd.DataFrame, _: object) -> list[str]:
    """Dates as dates, categories as categories, missing as pandas' own."""
    typed = table.assign(
        day=pd.to_datetime(table["day"]),
        plan=table["plan"].astype("category"),
        city=table["city"].astype("string"),
        age=table["age"].astype("Float64"),
        visits=table["visits"].astype("Int64"),
        member=table["member"].astype("boolean"),
    )
    return over_the_client(server, typed, None)


ROADS: list[Road] = [
    over_rows,
    over_v1_instances,
    over_v1_inputs,
    over_split,
    over_v2_tensors,
    over_v2_columns,
    over_triton_http_columns,
    over_triton_grpc_columns,
    over_triton_grpc,
    over_grpc_contents,
    over_csv,
    over_csv_without_header,
    over_json_lines,
    over_score,
    over_the_client,
    over_the_client_with_dates,
]


@pytest.mark.parametrize("road", ROADS, ids=lambda road: road.__name__)
def test_the_same_table_gets_the_same_answer_on_every_road(told: Any, road: Road) -> None:
    """Rows, v1, v2, CSV, JSON Lines, gRPC and the client say what the estimator says."""
    server, table, tensors, wanted = told
    assert road(server, table, tensors) == wanted


def json_values(array: np.ndarray) -> list[Any]:
    values = array.reshape(-1).tolist()
    return [None if value != value else value for value in values]


def datatype_of(column: "pd.Series[Any]") -> Datatype:
    return Datatype.of(column_array(column).dtype)


def column_array(column: "pd.Series[Any]") -> np.ndarray:
    if column.dtype.kind in "biuf":
        return column.to_numpy()
    return column.fillna("").to_numpy(object)


def triton_labels(client: Any, module: Any, table: pd.DataFrame) -> list[str]:
    inputs = []
    for name in table.columns:
        array = column_array(table[name])
        tensor = module.InferInput(name, list(array.shape), datatype_of(table[name]).value)
        tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    return [label.decode() for label in client.infer(NAME, inputs).as_numpy("label")]


def v2_labels(server: Server, body: bytes, headers: dict[str, str]) -> list[str]:
    response = httpx.post(f"{server.url}/v2/models/{NAME}/infer", content=body, headers=headers)
    assert response.status_code == 200, response.text
    return next(
        list(output["data"]) for output in response.json()["outputs"] if output["name"] == "label"
    )


def invoke(server: Server, body: str, kind: str, accept: str = "*/*") -> httpx.Response:
    headers = {
        "content-type": kind,
        "accept": accept,
        "x-amzn-sagemaker-target-model": NAME,
    }
    return httpx.post(f"{server.url}/invocations", content=body.encode(), headers=headers)


def csv_labels(server: Server, text: str) -> list[str]:
    response = invoke(server, text, "text/csv", "text/csv")
    assert response.status_code == 200, response.text
    return response.text.splitlines()
