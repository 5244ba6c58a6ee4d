"""The ways in which servers want a row, and in which they answer."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import orjson

from benchmarks.model import Model, Tensors
from benchmarks.peer import Form
from modelyard.api.grpc.messages import SERVICE, ModelInferRequest, ModelInferResponse

JSON: Final = {"Content-Type": "application/json"}
_BYTES: Final = {"Content-Type": "application/octet-stream"}
_HEADER_LENGTH: Final = "inference-header-content-length"
_DATATYPES: Final = {"float32": "FP32", "int64": "INT64"}
_DTYPES: Final = {"FP32": "<f4", "INT64": "<i8"}


def plain_json(path: str) -> Form:
    """One object by name, without the batch axis: what a hand-written service takes."""

    def encode(inputs: Tensors) -> tuple[bytes, Mapping[str, str]]:
        return orjson.dumps({name: array[0].tolist() for name, array in inputs.items()}), JSON

    def decode(body: bytes, _: Mapping[str, str]) -> Tensors:
        return {name: np.asarray([value]) for name, value in orjson.loads(body).items()}

    return Form("json", path, encode, decode)


def plain_bytes(path: str, model: Model) -> Form:
    """The bytes of all inputs one after the other, and of all outputs: no names, no shapes."""
    outputs = {name: (array.dtype, array.shape) for name, array in model.cases[0].outputs.items()}

    def encode(inputs: Tensors) -> tuple[bytes, Mapping[str, str]]:
        return b"".join(array.tobytes() for array in inputs.values()), _BYTES

    def decode(body: bytes, _: Mapping[str, str]) -> Tensors:
        arrays, at = {}, 0
        for name, (dtype, shape) in outputs.items():
            arrays[name] = np.frombuffer(body, dtype, int(np.prod(shape)), at).reshape(shape)
            at += arrays[name].nbytes
        return arrays

    return Form("binary", path, encode, decode)


def v1_json(path: str, model: Model) -> Form:
    """TensorFlow Serving's form, rows by input name: what KServe calls version 1."""
    first = next(iter(model.cases[0].outputs))

    def encode(inputs: Tensors) -> tuple[bytes, Mapping[str, str]]:
        if len(inputs) == 1:
            rows = next(iter(inputs.values())).tolist()
        else:
            rows = [{name: array[0].tolist() for name, array in inputs.items()}]
        return orjson.dumps({"instances": rows}), JSON

    def decode(body: bytes, _: Mapping[str, str]) -> Tensors:
        answers = orjson.loads(body)["predictions"]
        if isinstance(answers[0], dict):
            return _columns(answers)
        return {first: np.asarray(answers)}

    return Form("v1 json", path, encode, decode)


def invocations(path: str) -> Form:
    """MLflow's form: `inputs` by name, with the batch axis; answers as rows or by name."""

    def encode(inputs: Tensors) -> tuple[bytes, Mapping[str, str]]:
        named = {name: array.tolist() for name, array in inputs.items()}
        return orjson.dumps({"inputs": named}), JSON

    def decode(body: bytes, _: Mapping[str, str]) -> Tensors:
        answers = orjson.loads(body)["predictions"]
        if isinstance(answers, list):
            return _columns(answers)
        return {name: np.asarray(value) for name, value in answers.items()}

    return Form("json", path, encode, decode)


def _columns(rows: list[dict[str, Any]]) -> Tensors:
    return {name: np.asarray([row[name] for row in rows]) for name in rows[0]}


def v2_json(path: str) -> Form:
    """Open Inference Protocol v2 in JSON."""

    def encode(inputs: Tensors) -> tuple[bytes, Mapping[str, str]]:
        described = [{**_head(name, array), "data": _flat(array)} for name, array in inputs.items()]
        return orjson.dumps({"inputs": described}), JSON

    def decode(body: bytes, _: Mapping[str, str]) -> Tensors:
        return {
            output["name"]: np.asarray(output["data"]).reshape(output["shape"])
            for output in orjson.loads(body)["outputs"]
        }

    return Form("v2 json", path, encode, decode)


def v2_binary(path: str) -> Form:
    """The binary tensor extension of v2, both ways."""

    def encode(inputs: Tensors) -> tuple[bytes, Mapping[str, str]]:
        described = [
            {**_head(name, array), "parameters": {"binary_data_size": array.nbytes}}
            for name, array in inputs.items()
        ]
        head = orjson.dumps({"inputs": described, "parameters": {"binary_data_output": True}})
        headers = {**_BYTES, "Inference-Header-Content-Length": str(len(head))}
        return b"".join([head, *(array.tobytes() for array in inputs.values())]), headers

    return Form("v2 binary", path, encode, _decode_v2_binary)


def _decode_v2_binary(body: bytes, headers: Mapping[str, str]) -> Tensors:
    at = int(headers[_HEADER_LENGTH])
    arrays = {}
    for output in orjson.loads(body[:at])["outputs"]:
        size = output["parameters"]["binary_data_size"]
        array = np.frombuffer(body[at : at + size], _DTYPES[output["datatype"]])
        arrays[output["name"]] = array.reshape(output["shape"])
        at += size
    return arrays


def v2_grpc(model_name: str) -> Form:
    """Open Inference Protocol v2 over gRPC, tensors raw."""

    def encode(inputs: Tensors) -> tuple[bytes, Mapping[str, str]]:
        request = ModelInferRequest(model_name=model_name)
        for name, array in inputs.items():
            request.inputs.add(name=name, datatype=_DATATYPES[str(array.dtype)], shape=array.shape)
            request.raw_input_contents.append(array.tobytes())
        return request.SerializeToString(), {}

    def decode(body: bytes, _: Mapping[str, str]) -> Tensors:
        response = ModelInferResponse.FromString(body)
        return dict(_arrays(response))

    return Form("grpc", f"/{SERVICE}/ModelInfer", encode, decode, protocol="grpc")


def encode_grpc_answer(outputs: Tensors) -> bytes:
    """The message that answers with these arrays, for a server that has but one answer."""
    response = ModelInferResponse(model_name="echo")
    for name, array in outputs.items():
        response.outputs.add(name=name, datatype=_DATATYPES[str(array.dtype)], shape=array.shape)
        response.raw_output_contents.append(array.tobytes())
    return response.SerializeToString()


def _arrays(response: ModelInferResponse) -> Iterator[tuple[str, np.ndarray[Any, np.dtype[Any]]]]:
    for index, output in enumerate(response.outputs):
        if response.raw_output_contents:
            data = response.raw_output_contents[index]
            array = np.frombuffer(data, _DTYPES[output.datatype])
        else:
            contents = output.contents
            values = (
                contents.int64_contents if output.datatype == "INT64" else contents.fp32_contents
            )
            array = np.array(values)
        yield output.name, array.reshape(tuple(output.shape))


def row_json(path: str, model: Model) -> Form:
    """One plain object of a table's row, value by column name: what a person would type."""

    def encode(inputs: Tensors) -> tuple[bytes, Mapping[str, str]]:
        values = inputs["input"][0].tolist()
        return orjson.dumps(dict(zip(model.columns, values, strict=True))), JSON

    def decode(body: bytes, _: Mapping[str, str]) -> Tensors:
        answer = orjson.loads(body)
        return {
            "label": np.asarray([answer["prediction"]]),
            "probabilities": np.asarray([list(answer["probabilities"].values())]),
        }

    return Form("row json", path, encode, decode)


def _head(name: str, array: np.ndarray[Any, np.dtype[Any]]) -> dict[str, object]:
    return {"name": name, "datatype": _DATATYPES[str(array.dtype)], "shape": list(array.shape)}


def _flat(array: np.ndarray[Any, np.dtype[Any]]) -> list[float]:
    return list(array.reshape(-1).tolist())
