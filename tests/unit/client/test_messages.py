"""Responses to values: what a server may say, and what it may not."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.client.messages import (
    ERRORS,
    HEAD_LENGTH,
    Response,
    error_of,
    infer_request,
    read_answer,
    read_json,
    read_signature,
)
from modelyard.core.errors import (
    Exhausted,
    Internal,
    Invalid,
    Kind,
    NotFound,
    Unavailable,
)


def _response(status: int, body: bytes, **headers: str) -> Response:
    return Response(status, headers, body)


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_has_its_class(kind: Kind) -> None:
    """An error comes back as the class that the server raised."""
    assert ERRORS[kind].kind is kind
    body = {"error": "no", "kind": kind, "code": "c", "field": "f"}
    error = error_of(_response(400, json.dumps(body).encode()))
    assert type(error) is ERRORS[kind]
    assert (error.message, error.code, error.field) == ("no", "c", "f")


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFound), (429, Exhausted), (502, Unavailable), (500, Internal), (418, Invalid)],
)
@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b'"x"', b"\xff", b'{"detail": 1}', b"[" * 100_000]
)
def test_an_error_that_is_not_ours_goes_by_its_status(
    status: int, kind: type[Exception], body: bytes
) -> None:
    """A proxy's page, or another server's JSON, is still an error of the right class."""
    error = error_of(_response(status, body))
    assert type(error) is kind
    assert error.code == f"http_{status}"


def test_an_error_of_another_oip_server() -> None:
    """The protocol's own error body, without our parts, keeps its message."""
    error = error_of(_response(404, b'{"error": "no such model"}'))
    assert type(error) is NotFound
    assert (error.message, error.code, error.field) == ("no such model", "http_404", None)


def test_a_kind_of_a_later_version_goes_by_its_status() -> None:
    """A kind that this client does not know is no reason to fail on the error itself."""
    error = error_of(_response(409, b'{"error": "no", "kind": "novel", "code": "c"}'))
    assert error.kind is Kind.CONFLICT


def test_json_outputs_are_read_too() -> None:
    """A server that ignores the binary extension answers in JSON; null is NaN."""
    tensor = {"name": "y", "datatype": "FP32", "shape": [2], "data": [1.5, None]}
    answer = read_answer(_response(200, json.dumps({"outputs": [tensor]}).encode()))
    np.testing.assert_array_equal(answer.outputs["y"], np.float32([1.5, np.nan]))
    assert answer.version is None


def _binary(head: object, *parts: bytes) -> Response:
    text = json.dumps(head).encode()
    return Response(200, {HEAD_LENGTH: str(len(text))}, b"".join((text, *parts)))


def _output(**changes: Any) -> dict[str, Any]:
    tensor = {
        "name": "y",
        "datatype": "FP32",
        "shape": [1],
        "parameters": {"binary_data_size": 4},
        **changes,
    }
    return {"outputs": [tensor]}


@pytest.mark.parametrize(
    "response",
    [
        _response(200, b"not JSON"),
        _response(200, b"[]"),
        _response(200, b"[" * 100_000),
        _response(200, b"{}"),
        Response(200, {HEAD_LENGTH: "9999"}, b"{}"),
        Response(200, {HEAD_LENGTH: "-1"}, b"{}"),
        Response(200, {HEAD_LENGTH: "two"}, b"{}"),
        _binary(_output(), b"\0\0"),
        _binary(_output(shape=[2]), b"\0" * 4),
        _binary(_output(shape="x"), b"\0" * 4),
        _binary(_output(datatype="FP8"), b"\0" * 4),
        _binary(_output(parameters={"binary_data_size": "4"}), b"\0" * 4),
        _binary(_output(parameters={"binary_data_size": -4}), b"\0" * 8),
        _binary(_output(parameters={}), b"\0" * 4),
        _binary({"outputs": [{"name": "y"}]}),
        _binary({"outputs": 5}),
    ],
)
def test_an_answer_that_cannot_be_read_is_the_servers_fault(response: Response) -> None:
    """A malformed answer is one clear error, never an array of something else."""
    with pytest.raises(Internal, match="cannot be read") as refused:
        read_answer(response)
    assert refused.value.code == "bad_response"


@given(st.binary(max_size=60), st.integers(-1, 70))
def test_no_bytes_break_the_reader(body: bytes, length: int) -> None:
    """Whatever a server sends, only our own error comes out."""
    with pytest.raises(Internal):
        read_answer(Response(200, {HEAD_LENGTH: str(length)}, body))


def test_several_tensors_lie_behind_one_another() -> None:
    """Request and answer carry their binary tensors in the order of the JSON."""
    x, s = np.array([1, 2], np.int16), np.array(["a", "bc"], object)
    request = infer_request("/p", {"x": x, "s": s}, ["y"])
    length = int(request.headers[HEAD_LENGTH])
    head = json.loads(request.body[:length])
    assert [each["parameters"]["binary_data_size"] for each in head["inputs"]] == [4, 11]
    assert request.body[length:] == x.tobytes() + b"\x01\0\0\0a\x02\0\0\0bc"
    assert head["outputs"] == [{"name": "y", "parameters": {"binary_data": True}}]
    answer = read_answer(_binary({"outputs": head["inputs"]}, request.body[length:]))
    np.testing.assert_array_equal(answer.outputs["x"], x)
    assert answer.outputs["s"].tolist() == ["a", "bc"]


@pytest.mark.parametrize(
    "metadata", [{}, [], {"inputs": 1, "outputs": []}, {"inputs": [{"name": "x"}], "outputs": []}]
)
def test_metadata_that_cannot_be_read(metadata: Any) -> None:
    """What is no model's metadata is one clear error."""
    with pytest.raises(Internal, match="not that of a model"):
        read_signature(metadata)


def test_metadata_of_another_server_has_no_columns() -> None:
    """The plain protocol's metadata is a signature of tensors, which nobody may join."""
    tensor = {"name": "x", "datatype": "FP32", "shape": ["-1", "4"]}
    signature = read_signature({"inputs": [tensor], "outputs": [tensor]})
    assert signature.inputs[0].shape == (-1, 4)
    assert not signature.is_table
    assert not signature.batched


def test_a_body_that_is_not_json() -> None:
    """A success without JSON is one clear error too."""
    with pytest.raises(Internal, match="not JSON"):
        read_json(_response(200, b"<html>"))
