"""HTTP messages as values, and the Open Inference Protocol's JSON and binary tensors in them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import (
    Cancelled,
    Conflict,
    Denied,
    Exhausted,
    Internal,
    Invalid,
    Kind,
    ModelyardError,
    NotFound,
    TimedOut,
    Unauthenticated,
    Unavailable,
)
from modelyard.core.signature import Column, Signature, TensorSpec
from modelyard.core.tensors import check_shape, from_list, from_raw, to_raw

HEAD_LENGTH: Final = "inference-header-content-length"
"""Header with the length of the JSON before the binary tensors."""


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request; `path` begins with a slash."""

    method: str
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


ERRORS: Final[dict[Kind, type[ModelyardError]]] = {
    Kind.INVALID: Invalid,
    Kind.UNAUTHENTICATED: Unauthenticated,
    Kind.DENIED: Denied,
    Kind.NOT_FOUND: NotFound,
    Kind.CONFLICT: Conflict,
    Kind.EXHAUSTED: Exhausted,
    Kind.UNAVAILABLE: Unavailable,
    Kind.TIMEOUT: TimedOut,
    Kind.CANCELLED: Cancelled,
    Kind.INTERNAL: Internal,
}
"""The class that each kind of error is raised as."""

# What reading JSON of any shape as if it were of ours can raise.
_MALFORMED: Final = (ValueError, KeyError, TypeError, AttributeError, RecursionError)

_KINDS: Final[dict[int, Kind]] = {
    401: Kind.UNAUTHENTICATED,
    403: Kind.DENIED,
    404: Kind.NOT_FOUND,
    408: Kind.TIMEOUT,
    409: Kind.CONFLICT,
    413: Kind.EXHAUSTED,
    429: Kind.EXHAUSTED,
    499: Kind.CANCELLED,
    502: Kind.UNAVAILABLE,
    503: Kind.UNAVAILABLE,
    504: Kind.TIMEOUT,
}


def error_of(response: Response) -> ModelyardError:
    """The error that a response of 400 or more says, or what its status means by itself."""
    fallback = Kind.INVALID if response.status < 500 else Kind.INTERNAL
    kind = _KINDS.get(response.status, fallback)
    try:
        body = json.loads(response.body)
        message = body["error"]
        kind = Kind(body.get("kind", kind))
    except _MALFORMED:
        return ERRORS[kind](
            f"http_{response.status}",
            f"the server answered with status {response.status}, and not as Modelyard does; "
            "check the address and what stands between",
        )
    where = body.get("field")
    return ERRORS[kind](
        str(body.get("code", f"http_{response.status}")),
        str(message),
        field=None if where is None else str(where),
    )


def read_json(response: Response) -> Any:
    """The JSON of a successful response."""
    try:
        return json.loads(response.body)
    except _MALFORMED:
        raise _unreadable("its body is not JSON") from None


def infer_request(path: str, inputs: Mapping[str, Array], outputs: Iterable[str] | None) -> Request:
    """A call with every tensor in binary, and its answer asked for alike."""
    tensors, parts = [], []
    for name, array in inputs.items():
        data = to_raw(array)
        parts.append(data)
        tensors.append(
            {
                "name": name,
                "datatype": str(Datatype.of(array.dtype)),
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(data)},
            }
        )
    message: dict[str, object] = {"inputs": tensors, "parameters": {"binary_data_output": True}}
    if outputs is not None:
        wanted = {"binary_data": True}
        message["outputs"] = [{"name": name, "parameters": wanted} for name in outputs]
    head = json.dumps(message, separators=(",", ":")).encode()
    return Request(
        "POST",
        path,
        {HEAD_LENGTH: str(len(head)), "content-type": "application/octet-stream"},
        b"".join((head, *parts)),
    )


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave: outputs by name, and the version that gave them."""

    outputs: dict[str, Array]
    version: str | None


def read_answer(response: Response) -> Answer:
    """The outputs of an inference response, binary or JSON, each an array of its own dtype."""
    length = response.headers.get(HEAD_LENGTH)
    end = len(response.body) if length is None else int(length) if length.isdecimal() else -1
    if not 0 <= end <= len(response.body):
        raise _unreadable(f"{HEAD_LENGTH} is '{length}'")
    try:
        head = json.loads(response.body[:end])
        outputs: dict[str, Array] = {}
        position = end
        for tensor in head["outputs"]:
            size = tensor.get("parameters", {}).get("binary_data_size")
            if size is not None and not (type(size) is int and size >= 0):
                raise _unreadable(f"a tensor of {size!r} bytes")
            outputs[tensor["name"]] = _tensor(tensor, response.body[position:][:size], size)
            position += size or 0
        version = head.get("model_version")
    except (*_MALFORMED, Invalid) as error:
        raise _unreadable(str(error)) from error
    return Answer(outputs, None if version is None else str(version))


def _tensor(tensor: Mapping[str, Any], data: bytes, size: int | None) -> Array:
    name, datatype = tensor["name"], Datatype(tensor["datatype"])
    shape = check_shape(tensor["shape"], name)
    if size is None:
        return from_list(datatype, shape, tensor["data"], name)
    # A copy: the view is read-only and would keep the whole body alive.
    return np.array(from_raw(datatype, shape, data, name))


def read_signature(metadata: Mapping[str, Any]) -> Signature:
    """The signature that model metadata describes; a server of another make gives no columns."""
    try:
        parameters = metadata.get("parameters", {})
        inputs = tuple(_spec(tensor) for tensor in metadata["inputs"])
        return Signature(
            inputs,
            tuple(_spec(tensor) for tensor in metadata["outputs"]),
            batched=bool(parameters.get("batched", any(spec.columns for spec in inputs))),
            task=parameters.get("task"),
        )
    except _MALFORMED as error:
        raise _unreadable(f"its metadata is not that of a model ({error!r})") from error


def _spec(tensor: Mapping[str, Any]) -> TensorSpec:
    columns: Sequence[Mapping[str, Any]] = (tensor.get("parameters") or {}).get("columns") or ()
    return TensorSpec(
        tensor["name"],
        Datatype(tensor["datatype"]),
        tuple(int(length) for length in tensor["shape"]),
        tuple(_column(column) for column in columns),
    )


def _column(column: Mapping[str, Any]) -> Column:
    categories = column.get("categories")
    return Column(
        column["name"],
        Datatype(column["datatype"]),
        nullable=bool(column.get("nullable", False)),
        categories=None if categories is None else tuple(categories),
        open_categories=bool(column.get("open_categories", False)),
        unit=column.get("unit"),
    )


def _unreadable(why: str) -> Internal:
    return Internal("bad_response", f"the server's answer cannot be read: {why}")
