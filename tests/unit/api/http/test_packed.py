"""JSON before binary tensors that came before is not read again, and nobody can tell."""

from typing import Any

import numpy as np
import orjson
from hypothesis import given
from hypothesis import strategies as st

from modelyard.api.http.oip import JSON_LENGTH, OipCodec
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import Column, Signature, TensorSpec
from modelyard.core.tensors import to_raw
from modelyard.testing.serving import FunctionRuntime, endpoint_of

SIGNATURE = Signature(
    (
        TensorSpec("x", Datatype.FP32, (-1, 2)),
        TensorSpec("s", Datatype.BYTES, (-1,)),
        TensorSpec("b", Datatype.BOOL, (-1,)),
    ),
    (TensorSpec("y", Datatype.FP32, (-1,)),),
)
TABLE = Signature(
    (TensorSpec("age", Datatype.FP32, (-1, 1), (Column("age", Datatype.FP32),)),),
    (TensorSpec("y", Datatype.FP32, (-1,)),),
    task="regression",
)


def codec_of(signature: Signature) -> OipCodec:
    return OipCodec(endpoint_of(FunctionRuntime(signature, lambda inputs: inputs)))


def packed(arrays: dict[str, tuple[str, Any]], **more: object) -> tuple[dict[bytes, bytes], bytes]:
    raws = {name: to_raw(array) for name, (_, array) in arrays.items()}
    json = orjson.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "datatype": datatype,
                    "shape": array.shape,
                    "parameters": {"binary_data_size": len(raws[name])},
                }
                for name, (datatype, array) in arrays.items()
            ],
            **more,
        }
    )
    return {JSON_LENGTH: b"%d" % len(json)}, json + b"".join(raws.values())


def rows(value: float, text: str = "a", flag: bool = True) -> dict[str, tuple[str, Any]]:
    return {
        "x": ("FP32", np.array([[value, 1]], np.float32)),
        "s": ("BYTES", np.array([text], object)),
        "b": ("BOOL", np.array([flag])),
    }


def spoiled(request: tuple[dict[bytes, bytes], bytes]) -> tuple[dict[bytes, bytes], bytes]:
    """The same JSON, its last byte no flag."""
    return request[0], request[1][:-1] + b"\x07"


REQUESTS = [
    packed(rows(1)),
    packed(rows(2, "b", flag=False)),
    packed(rows(3, "long")),
    packed(rows(float("nan"))),
    packed(rows(1), parameters={"binary_data_output": True}),
    packed(rows(1), parameters={"priority": 1}),
    packed(rows(1), id="7"),
    packed(rows(1), outputs=[{"name": "y"}]),
    spoiled(packed(rows(1))),
    (packed(rows(1))[0], packed(rows(1))[1] + b"more"),
    (packed(rows(1))[0], packed(rows(1))[1][:-2]),
]
BY_COLUMN = [
    packed({"age": ("FP32", np.array([[5]], np.float32))}),
    packed({"age": ("FP32", np.array([5], np.float32))}),
    packed({"age": ("FP32", np.array([[np.nan]], np.float32))}),
    packed({"age": ("INT64", np.array([5]))}),
]


def outcome(codec: OipCodec, request: tuple[dict[bytes, bytes], bytes]) -> object:
    try:
        question = codec.read(*request)
    except Invalid as refusal:
        return refusal.code, refusal.field, refusal.message
    arrays = {
        name: (array.dtype, array.shape, to_raw(array)) for name, array in question.inputs.items()
    }
    return arrays, question.rows, question.schedule


@given(st.lists(st.sampled_from(REQUESTS), max_size=8))
def test_known_json_changes_no_reading(requests: list[tuple[dict[bytes, bytes], bytes]]) -> None:
    """Whatever came before, a request is read as a codec reads it that has seen none."""
    codec = codec_of(SIGNATURE)
    for request in requests:
        assert outcome(codec, request) == outcome(codec_of(SIGNATURE), request)


@given(st.lists(st.sampled_from(BY_COLUMN), max_size=8))
def test_a_table_by_its_columns_is_read_the_same_each_time(
    requests: list[tuple[dict[bytes, bytes], bytes]],
) -> None:
    """A column that bears its input's name has another shape, again and again."""
    codec = codec_of(TABLE)
    for request in requests:
        assert outcome(codec, request) == outcome(codec_of(TABLE), request)


def test_what_changes_each_time_is_not_kept() -> None:
    """Only JSON that comes twice in a row is kept, and never without bound."""
    codec = codec_of(SIGNATURE)
    for n in range(200):
        codec.read(*packed(rows(1), id=str(n)))
    assert not codec._jsons._known
    for n in range(200):
        codec.read(*packed(rows(1), id=str(n)))
        codec.read(*packed(rows(1), id=str(n)))
    assert 0 < len(codec._jsons._known) <= 64
