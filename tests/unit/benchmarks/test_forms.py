from pathlib import Path

import numpy as np
import orjson
import pytest

from benchmarks.forms import (
    encode_grpc_answer,
    invocations,
    plain_bytes,
    plain_json,
    row_json,
    v1_json,
    v2_binary,
    v2_grpc,
    v2_json,
)
from benchmarks.model import Case, Model, Tensors, is_close
from modelyard.api.grpc.messages import ModelInferRequest, ModelInferResponse

ROW = np.array([[17.99, 10.38]], np.float32)
ANSWER: Tensors = {
    "label": np.array([1], np.int64),
    "probabilities": np.array([[0.25, 0.75]], np.float32),
}
MODEL = Model("forest", Path(), Path(), None, ("radius", "texture"), [Case({"input": ROW}, ANSWER)])
NUMBERS = ROW[0].tolist()


def test_plain_json_has_no_batch_axis() -> None:
    """What a hand-written service takes and gives."""
    form = plain_json("/predict")
    body, headers = form.encode({"input": ROW})
    assert orjson.loads(body) == {"input": NUMBERS}
    assert headers == {"Content-Type": "application/json"}
    assert is_close(form.decode(b'{"label": 1, "probabilities": [0.25, 0.75]}', {}), ANSWER)


def test_plain_bytes_are_the_arrays_one_after_the_other() -> None:
    """Two inputs, two outputs, nothing between them."""
    form = plain_bytes("/bytes", MODEL)
    body, _ = form.encode({"a": ROW, "b": np.array([[7]])})
    assert body == ROW.tobytes() + np.int64(7).tobytes()
    answer = ANSWER["label"].tobytes() + ANSWER["probabilities"].tobytes()
    assert is_close(form.decode(answer, {}), ANSWER)


def test_v2_json_is_the_published_form() -> None:
    """One FP32 tensor of one row, flat, values in the order of the columns."""
    form = v2_json("/v2/models/forest/infer")
    body, headers = form.encode({"input": ROW})
    assert orjson.loads(body) == {
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 2], "data": NUMBERS}]
    }
    assert headers == {"Content-Type": "application/json"}
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]},
    ]
    assert is_close(form.decode(orjson.dumps({"outputs": outputs}), {}), ANSWER)


def test_v2_binary_carries_the_numbers_behind_the_head() -> None:
    """The head's length is in a header, the data is little-endian, both ways."""
    form = v2_binary("/v2/models/forest/infer")
    body, headers = form.encode({"input": ROW})
    at = int(headers["Inference-Header-Content-Length"])
    head = orjson.loads(body[:at])
    assert head["inputs"][0]["parameters"] == {"binary_data_size": 8}
    assert head["parameters"] == {"binary_data_output": True}
    assert np.frombuffer(body[at:], "<f4").tolist() == NUMBERS
    outputs = [
        {
            "name": name,
            "datatype": {"i": "INT64", "f": "FP32"}[array.dtype.kind],
            "shape": list(array.shape),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in ANSWER.items()
    ]
    head = orjson.dumps({"outputs": outputs})
    answer = head + b"".join(array.tobytes() for array in ANSWER.values())
    lengths = {"inference-header-content-length": str(len(head))}
    assert is_close(form.decode(answer, lengths), ANSWER)


def test_grpc_messages_carry_raw_tensors() -> None:
    """The request names model and tensor; an answer is read raw or typed."""
    form = v2_grpc("forest")
    request = ModelInferRequest.FromString(form.encode({"input": ROW})[0])
    assert (request.model_name, request.inputs[0].name) == ("forest", "input")
    assert list(request.inputs[0].shape) == [1, 2]
    assert list(request.raw_input_contents) == [ROW.tobytes()]
    assert form.path == "/inference.GRPCInferenceService/ModelInfer"
    assert is_close(form.decode(encode_grpc_answer(ANSWER), {}), ANSWER)
    typed = ModelInferResponse()
    label = typed.outputs.add(name="label", datatype="INT64", shape=[1])
    label.contents.int64_contents.append(1)
    probabilities = typed.outputs.add(name="probabilities", datatype="FP32", shape=[1, 2])
    probabilities.contents.fp32_contents.extend([0.25, 0.75])
    assert is_close(form.decode(typed.SerializeToString(), {}), ANSWER)


def test_rows_and_instances_are_read_by_name() -> None:
    """KServe's version 1, MLflow's invocations and Modelyard's plain row."""
    rows = [{"label": 1, "probabilities": [0.25, 0.75]}]
    v1 = v1_json("/v1/models/forest:predict", MODEL)
    assert orjson.loads(v1.encode({"input": ROW})[0]) == {"instances": [NUMBERS]}
    assert is_close(v1.decode(orjson.dumps({"predictions": rows}), {}), ANSWER)
    two = orjson.loads(v1.encode({"a": ROW, "b": ROW})[0])
    assert two == {"instances": [{"a": NUMBERS, "b": NUMBERS}]}
    mlflow = invocations("/invocations")
    assert orjson.loads(mlflow.encode({"input": ROW})[0]) == {"inputs": {"input": [NUMBERS]}}
    named = {"label": [1], "probabilities": [[0.25, 0.75]]}
    assert is_close(mlflow.decode(orjson.dumps({"predictions": named}), {}), ANSWER)
    row = row_json("/predict/forest", MODEL)
    expected = dict(zip(MODEL.columns, NUMBERS, strict=True))
    assert orjson.loads(row.encode({"input": ROW})[0]) == expected
    answer = {"prediction": 1, "probabilities": {"0": 0.25, "1": 0.75}}
    assert is_close(row.decode(orjson.dumps(answer), {}), ANSWER)


@pytest.mark.parametrize("make", [v2_json, v2_binary])
def test_integers_stay_integers(make: type) -> None:
    """Token ids travel as INT64."""
    body, _ = make("/p").encode({"ids": np.array([[2, 3]])})
    assert b'"datatype":"INT64"' in body
