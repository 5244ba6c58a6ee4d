"""Tensors of every datatype, typed and raw, decoded and encoded."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelyard.api.grpc.infer import InferCodec
from modelyard.api.grpc.messages import (
    InferTensorContents,
    ModelInferRequest,
    ModelInferResponse,
)
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.tensors import to_raw
from tests.unit.api.grpc.conftest import echo_model


def read_inputs(request: ModelInferRequest) -> dict[str, Array]:
    """The request read for a model that takes exactly what it says it holds."""
    datatype = Datatype(request.inputs[0].datatype)
    return InferCodec(echo_model(datatype, len(request.inputs[0].shape))).read(request)


Contents = dict[str, list[Any]]


def _typed(datatype: str, shape: tuple[int, ...], contents: Contents) -> ModelInferRequest:
    request = ModelInferRequest(model_name="m")
    tensor = request.inputs.add(name="x", datatype=datatype, shape=shape)
    tensor.contents.CopyFrom(InferTensorContents(**contents))
    return request


def _raw(datatype: str, shape: tuple[int, ...], *data: bytes) -> ModelInferRequest:
    request = ModelInferRequest(model_name="m", raw_input_contents=data)
    request.inputs.add(name="x", datatype=datatype, shape=shape)
    return request


@given(arrays.arrays(np.float32, st.integers(0, 300)))
def test_typed_floats_are_read_bit_by_bit(values: Array) -> None:
    """Every float arrives with its own bits, NaNs and infinities too."""
    request = _typed("FP32", values.shape, {"fp32_contents": values.tolist()})
    (read,) = read_inputs(ModelInferRequest.FromString(request.SerializeToString())).values()
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, values)


@pytest.mark.parametrize(
    ("datatype", "name"),
    [
        (Datatype.INT8, "int_contents"),
        (Datatype.INT16, "int_contents"),
        (Datatype.INT32, "int_contents"),
        (Datatype.INT64, "int64_contents"),
        (Datatype.UINT8, "uint_contents"),
        (Datatype.UINT16, "uint_contents"),
        (Datatype.UINT32, "uint_contents"),
        (Datatype.UINT64, "uint64_contents"),
    ],
)
def test_typed_integers_keep_their_limits(datatype: Datatype, name: str) -> None:
    """The smallest and the largest value of every integer datatype arrive as they are."""
    limits = np.iinfo(datatype.dtype)
    request = _typed(datatype, (2,), {name: [limits.min, limits.max]})
    (read,) = read_inputs(request).values()
    assert read.dtype == datatype.dtype
    assert read.tolist() == [limits.min, limits.max]


@pytest.mark.parametrize(
    ("datatype", "name", "value"),
    [
        ("INT8", "int_contents", 128),
        ("INT16", "int_contents", -32769),
        ("UINT8", "uint_contents", 256),
        ("UINT16", "uint_contents", 65536),
    ],
)
def test_typed_integers_do_not_wrap(datatype: str, name: str, value: int) -> None:
    """An integer that the datatype cannot hold is refused, never wrapped around."""
    with pytest.raises(Invalid, match="outside") as refused:
        read_inputs(_typed(datatype, (1,), {name: [value]}))
    assert (refused.value.code, refused.value.field) == ("out_of_range", "x")


def test_unknown_fields_do_not_shift_typed_contents() -> None:
    """Fields of a later protocol beside the elements do not become elements."""
    # Field 15, a varint: after the floats when the message is written again.
    contents = InferTensorContents(fp32_contents=[1.0, 2.0]).SerializeToString() + b"\x78\x05"
    request = _typed("FP32", (2,), {})
    request.inputs[0].contents.MergeFromString(contents)
    assert read_inputs(request)["x"].tolist() == [1.0, 2.0]


def test_unpacked_typed_contents_are_read() -> None:
    """Repeated fields that a client did not pack are read alike."""
    request = _typed("FP32", (2,), {})
    element = bytes((6 << 3 | 5,)) + np.float32(1.5).tobytes()
    request.inputs[0].contents.MergeFromString(element * 2)
    assert read_inputs(request)["x"].tolist() == [1.5, 1.5]


REFUSED: dict[str, tuple[ModelInferRequest, str]] = {
    "negative length": (_raw("FP32", (-1,), b""), "bad_shape"),
    "more axes than numpy has": (_raw("FP32", (1,) * 70, b"\0\0\0\0"), "bad_shape"),
    "empty and endless": (_raw("FP32", (0, 2**62, 2**62), b""), "bad_shape"),
    "endless": (_raw("FP32", (2**62, 2**62), b""), "wrong_length"),
    "endless strings": (_raw("BYTES", (2**62,), b""), "wrong_length"),
    "endless typed": (_typed("INT64", (2**62,), {}), "wrong_length"),
    "too few bytes": (_raw("FP32", (2,), b"\0\0\0\0"), "wrong_length"),
    "too many bytes": (_raw("INT8", (1,), b"\0\0"), "wrong_length"),
    "a string cut off": (_raw("BYTES", (1,), b"\x05\0\0\0abc"), "wrong_length"),
    "not UTF-8": (_raw("BYTES", (1,), b"\x01\0\0\0\xff"), "not_utf8"),
    "not UTF-8, typed": (_typed("BYTES", (1,), {"bytes_contents": [b"\xff"]}), "not_utf8"),
    "no boolean": (_raw("BOOL", (1,), b"\x02"), "bad_data"),
    "one raw entry too many": (_raw("FP32", (1,), b"\0" * 4, b"\0" * 4), "wrong_raw_contents"),
    "typed FP16": (_typed("FP16", (1,), {"fp32_contents": [1.0]}), "no_typed_contents"),
    "the wrong field": (_typed("FP32", (1,), {"fp64_contents": [1.0]}), "wrong_contents"),
    "a field too many": (
        _typed("INT64", (1,), {"int64_contents": [1], "bool_contents": [True]}),
        "wrong_contents",
    ),
    "too few values": (_typed("FP32", (2,), {"fp32_contents": [1.0]}), "wrong_length"),
    "no contents at all": (_typed("FP32", (2,), {}), "wrong_length"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_unreadable_tensors_are_refused(case: str) -> None:
    """What is no tensor is refused with a code of its own and the tensor at fault."""
    request, code = REFUSED[case]
    with pytest.raises(Invalid) as refused:
        read_inputs(ModelInferRequest.FromString(request.SerializeToString()))
    assert refused.value.code == code
    assert refused.value.field in ("x", "raw_input_contents")


def test_raw_and_typed_contents_do_not_mix() -> None:
    """A tensor with typed contents beside raw contents is an error, as the protocol says."""
    request = _typed("FP32", (1,), {"fp32_contents": [1.0]})
    request.raw_input_contents.append(b"\0\0\0\0")
    with pytest.raises(Invalid, match="one or the other"):
        read_inputs(request)


def test_an_input_comes_once() -> None:
    """The same name twice is an error; the protocol does not say which would count."""
    request = _raw("FP32", (1,), b"\0" * 4, b"\0" * 4)
    request.inputs.add(name="x", datatype="FP32", shape=(1,))
    with pytest.raises(Invalid, match="twice"):
        read_inputs(request)


def test_shared_memory_is_refused() -> None:
    """Tensors in shared memory are refused by name, not read as empty."""
    request = _raw("FP32", (1,), b"\0" * 4)
    request.inputs[0].parameters["shared_memory_region"].string_param = "here"
    with pytest.raises(Invalid, match="shared_memory_region"):
        read_inputs(request)


@pytest.mark.parametrize("datatype", ["BF16", "FP64", "", "x" * 1000])
def test_another_datatype_is_refused_before_it_is_read(datatype: str) -> None:
    """The tensor's datatype must be the signature's, even one the protocol does not know."""
    request = _raw(datatype, (1,), b"\0" * 4)
    with pytest.raises(Invalid, match="'x' is FP32, not") as refused:
        InferCodec(echo_model(Datatype.FP32, 1)).read(request)
    assert (refused.value.code, refused.value.field) == ("wrong_datatype", "x")
    assert len(refused.value.message) < 100


@pytest.mark.parametrize("datatype", Datatype)
def test_a_plain_answer_is_what_protobuf_would_write(datatype: Datatype) -> None:
    """The answer that is put together from its fields reads as the message that it stands for."""
    elements = st.text(st.characters(codec="utf-8")) if datatype is Datatype.BYTES else None
    dtype = object if datatype is Datatype.BYTES else datatype.dtype
    shapes = arrays.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=20)
    codec = InferCodec(echo_model(datatype, 2))

    @given(arrays.arrays(dtype, shapes, elements=elements), st.text(st.characters(codec="utf-8")))
    def equal(array: Array, id: str) -> None:
        wanted = codec.wanted(ModelInferRequest(id=id))
        response = ModelInferResponse(
            model_name=f"echo_{datatype}_2",
            model_version="1",
            id=id,
            raw_output_contents=[to_raw(array)],
        )
        response.outputs.add(name="y", datatype=datatype, shape=array.shape)
        assert ModelInferResponse.FromString(codec.write(wanted, {"y": array})) == response

    equal()
