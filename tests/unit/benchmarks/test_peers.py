import numpy as np
import orjson
import pytest

from benchmarks.peer import Answer
from benchmarks.peers.modelyard import (
    decode_row,
    decode_v2,
    decode_v2_binary,
    encode_row,
    encode_v2,
    encode_v2_binary,
)

ROW = {"mean radius": 17.99, "mean texture": 10.38}
ANSWER = Answer(1, [0.25, 0.75])


def test_v2_json_is_the_published_form() -> None:
    """One FP32 tensor of one row, values in the order of the columns."""
    body, headers = encode_v2(ROW)
    assert orjson.loads(body) == {
        "inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [17.99, 10.38]}]
    }
    assert headers == {"Content-Type": "application/json"}


def test_v2_binary_carries_the_numbers_behind_the_head() -> None:
    """The head's length is in a header, the data is little-endian float32."""
    body, headers = encode_v2_binary(ROW)
    at = int(headers["Inference-Header-Content-Length"])
    head = orjson.loads(body[:at])
    assert head["inputs"][0]["parameters"] == {"binary_data_size": 8}
    assert head["parameters"] == {"binary_data_output": True}
    assert np.frombuffer(body[at:], "<f4").tolist() == np.float32([17.99, 10.38]).tolist()


def test_a_plain_row_is_an_object_by_column() -> None:
    """What a person would type."""
    assert orjson.loads(encode_row(ROW)[0]) == ROW


def test_the_same_answer_is_read_from_every_form() -> None:
    """Three forms of one answer are one answer."""
    outputs = [
        {"name": "label", "datatype": "INT64", "shape": [1], "data": [1]},
        {"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": [0.25, 0.75]},
    ]
    assert decode_v2(orjson.dumps({"outputs": outputs}), {}) == ANSWER
    row = {"prediction": 1, "probabilities": {"0": 0.25, "1": 0.75}}
    assert decode_row(orjson.dumps(row), {}) == ANSWER
    data = [np.int64([1]).tobytes(), np.float32([0.25, 0.75]).tobytes()]
    described = [
        {"name": each["name"], "datatype": each["datatype"], "shape": each["shape"]}
        | {"parameters": {"binary_data_size": len(part)}}
        for each, part in zip(outputs, data, strict=True)
    ]
    head = orjson.dumps({"outputs": described})
    headers = {"inference-header-content-length": str(len(head))}
    assert decode_v2_binary(head + b"".join(data), headers) == ANSWER


@pytest.mark.parametrize(
    "other",
    [Answer(0, [0.25, 0.75]), Answer(1, [0.2501, 0.7499]), Answer(1, [0.25]), Answer(1, [])],
)
def test_a_wrong_answer_is_not_close(other: Answer) -> None:
    """Another class, other probabilities or fewer of them are wrong answers."""
    assert not ANSWER.is_close(other)


def test_rounding_is_close() -> None:
    """Float32 digits more or less are the same answer."""
    assert ANSWER.is_close(Answer(1, [0.25000001, 0.74999999]))
