import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelyard.api.http.oip import JSON_LENGTH, OipCodec
from modelyard.core.call import Call
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import Signature, TensorSpec
from modelyard.core.tensors import from_list, from_raw, to_raw
from modelyard.testing.serving import FunctionRuntime, endpoint_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)


def identity_of(datatype: Datatype, rank: int) -> OipCodec:
    shape = (-1,) * rank
    signature = Signature(
        (TensorSpec("x", datatype, shape),), (TensorSpec("y", datatype, shape),), batched=False
    )
    return OipCodec(endpoint_of(FunctionRuntime(signature, lambda inputs: inputs)))


SERVED = endpoint_of(FunctionRuntime(Signature((), ()), lambda inputs: inputs))


def there_and_back(codec: OipCodec, body: bytes, headers: Mapping[bytes, bytes]) -> Any:
    question = codec.read(headers, body)
    call = Call(SERVED, question.inputs, question.rows, lambda call: None)
    call.answer({"y": question.inputs["x"]})
    return question.write(call)


def same(one: Array, other: Array) -> bool:
    if one.dtype.kind == "O":
        return one.shape == other.shape and bool((one == other).all())
    return (
        one.dtype == other.dtype and one.shape == other.shape and (one.tobytes() == other.tobytes())
    )


@pytest.mark.parametrize("datatype", list(Datatype))
@given(data=st.data())
def test_a_tensor_of_any_datatype_goes_there_and_back(
    datatype: Datatype, data: st.DataObject
) -> None:
    """JSON and binary, in and out, keep every value of every datatype, strings included."""
    shape = data.draw(arrays.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    if datatype is Datatype.BYTES:
        array = data.draw(arrays.arrays(object, shape, elements=TEXT, fill=st.nothing()))
    else:
        array = data.draw(arrays.arrays(datatype.dtype, shape))
    codec = identity_of(datatype, len(shape))
    binary_in, binary_out = data.draw(st.booleans()), data.draw(st.booleans())
    if not (binary_in and binary_out) and datatype.is_float:
        array = np.where(np.isfinite(array), array, datatype.dtype.type(0))
    tensor: dict[str, Any] = {"name": "x", "datatype": datatype, "shape": list(shape)}
    raw = to_raw(array)
    if binary_in:
        tensor["parameters"] = {"binary_data_size": len(raw)}
    else:
        tensor["data"] = array.reshape(-1).tolist()
    head = json.dumps(
        {"inputs": [tensor], "parameters": {"binary_data_output": binary_out}}
    ).encode()
    headers = {JSON_LENGTH: b"%d" % len(head)} if binary_in else {}
    answer = there_and_back(codec, head + (raw if binary_in else b""), headers)
    if binary_out:
        length = int(answer.extra_headers.split(b": ")[1])
        output = json.loads(answer.body[:length])["outputs"][0]
        back = from_raw(datatype, tuple(output["shape"]), answer.body[length:], "y")
    else:
        output = json.loads(answer.body)["outputs"][0]
        back = from_list(datatype, tuple(output["shape"]), output["data"], "y")
    assert output["datatype"] == datatype
    assert same(back, array)


DEEP = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":' + b"[" * 100_000


def ask(body: object, *, raw: bytes = b"", length: bytes | None = None) -> Any:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if length is None else {JSON_LENGTH: length}
    return there_and_back(identity_of(Datatype.FP32, 2), content + raw, headers)


def x(**changes: Any) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]} | changes


def test_the_id_is_echoed_and_the_version_named() -> None:
    """An answer carries the caller's id and says which version gave it."""
    answer = json.loads(ask({"id": 'a"b', "inputs": [x()]}).body)
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ('a"b', "model", "1")


def test_only_requested_outputs_are_sent() -> None:
    """Naming outputs selects them; naming none sends none."""
    assert len(json.loads(ask({"inputs": [x()], "outputs": [{"name": "y"}]}).body)["outputs"]) == 1
    assert json.loads(ask({"inputs": [x()], "outputs": []}).body)["outputs"] == []


@pytest.mark.parametrize(
    ("body", "code", "field"),
    [
        (b"{", "not_json", None),
        (b"\xff", "not_json", None),
        (b'{"inputs":' + b"[" * 100_000, "bad_request", None),
        (DEEP, "not_json", None),
        ([], "bad_request", None),
        ({}, "bad_request", None),
        ({"inputs": [{"name": "x"}]}, "bad_request", None),
        ({"inputs": [x(shape="2")]}, "bad_request", None),
        ({"inputs": []}, "missing_input", "x"),
        ({"inputs": [x(name="z")]}, "unknown_input", "z"),
        ({"inputs": [x(), x()]}, "duplicate_input", "x"),
        ({"inputs": [x(datatype="FP64")]}, "wrong_datatype", "x"),
        ({"inputs": [x(datatype="NONSENSE")]}, "wrong_datatype", "x"),
        ({"inputs": [x(shape=[2])]}, "wrong_rank", "x"),
        ({"inputs": [x(shape=[1, 3])]}, "wrong_length", "x"),
        ({"inputs": [x(shape=[-1, 2])]}, "bad_shape", "x"),
        ({"inputs": [x(data=["a", "b"])]}, "wrong_datatype", "x"),
        ({"inputs": [x(data=None)]}, "bad_data", "x"),
        ({"inputs": [x()], "outputs": [{"name": "z"}]}, "unknown_output", "z"),
        ({"inputs": [x()], "outputs": [{"name": "y", "parameters": {"classification": 0}}]},
         "bad_parameter", "y"),
        ({"inputs": [x()], "parameters": {"timeout": "soon"}}, "bad_parameter", "timeout"),
        ({"inputs": [x()], "parameters": {"priority": -1}}, "bad_parameter", "priority"),
        ({"inputs": [x()], "parameters": {"sequence_id": 7}}, "unsupported", "sequence_id"),
        ({"inputs": [x(parameters={"shared_memory_region": "r"})]}, "unsupported", "x"),
        ({"inputs": [x(parameters={"binary_data_size": 8})]}, "bad_binary", "x"),
        ({"inputs": [x()], "parameters": {"binary_data_output": 1}}, "bad_parameter",
         "binary_data_output"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(body: object, code: str, field: str | None) -> None:
    """Each way of being wrong has its own code and names the tensor at fault."""
    with pytest.raises(Invalid) as caught:
        ask(body)
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize("length", [b"-1", b"x", b"", b"99999", b"9" * 40])
def test_a_false_json_length_is_refused(length: bytes) -> None:
    """The header that divides a binary body is a number within it."""
    with pytest.raises(Invalid) as caught:
        ask({"inputs": [x()]}, length=length)
    assert caught.value.code == "bad_binary"


@pytest.mark.parametrize("size", [-1, 9, True, "8", 2**70])
def test_a_false_tensor_size_is_refused(size: object) -> None:
    """A binary tensor's size must lie within what the body holds, and use all of it."""
    head = json.dumps({"inputs": [x(data=None, parameters={"binary_data_size": size})]}).encode()
    with pytest.raises(Invalid) as caught:
        ask(head, raw=b"12345678", length=b"%d" % len(head))
    assert caught.value.code in ("bad_binary", "wrong_length")
    head = json.dumps({"inputs": [x()]}).encode()
    with pytest.raises(Invalid, match="belong to no input"):
        ask(head, raw=b"12345678", length=b"%d" % len(head))


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_missing_number_reaches_json_as_null(missing: float | None) -> None:
    """JSON has no NaN: one that a client wrote all the same is read, and null is sent back."""
    codec = identity_of(Datatype.FP32, 1)
    body = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [missing]}]}
    answer = there_and_back(codec, json.dumps(body).encode(), {})
    assert json.loads(answer.body)["outputs"][0]["data"] == [None]
