"""The Open Inference Protocol v2 over HTTP: JSON tensors and the binary tensor data extension."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np
import orjson

from modelyard.api.http.lenient import read_lenient
from modelyard.api.http.wire import Answer, Question
from modelyard.api.refusals import input_spec, output_spec, refuse_unsupported
from modelyard.core.call import Call
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.ports import Headers, Served
from modelyard.core.signature import TensorSpec
from modelyard.core.tensors import check_shape, from_floats, from_list, from_raw, to_raw

JSON_LENGTH: Final = b"inference-header-content-length"
"""The header that says where the JSON ends and the binary tensors begin."""


class Tensor(msgspec.Struct, frozen=True):
    """One input of a request. `data` is absent where the tensor travels behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    data: Any = None
    parameters: dict[str, Any] | None = None


class WantedOutput(msgspec.Struct, frozen=True):
    """One output that the caller asks for."""

    name: str
    parameters: dict[str, Any] | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """The JSON of an inference request."""

    inputs: list[Tensor]
    id: str | None = None
    outputs: list[WantedOutput] | None = None
    parameters: dict[str, Any] | None = None


class FloatTensor(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An input whose data is a flat list of numbers: what nearly every request holds."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class FloatRequest(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A request of such inputs and nothing else. Decoding proves every element a number."""

    inputs: list[FloatTensor]


_FLOATS: Final = msgspec.json.Decoder(FloatRequest)


class OipCodec:
    """Reads and writes v2 inference for one served version."""

    def __init__(self, served: Served) -> None:
        self._signature = served.signature
        self._specs = {spec.name: spec for spec in served.signature.inputs}
        self._outputs = {spec.name: spec for spec in served.signature.outputs}
        self._decoder = msgspec.json.Decoder(InferRequest)
        self._head = (
            b'{"model_name":' + orjson.dumps(served.model) + b',"model_version":"%d"'
        ) % served.version
        self._plain = [
            (spec.name, _opening(spec), spec.datatype is Datatype.BYTES)
            for spec in served.signature.outputs
        ]
        self._write_plain = partial(self._write_json, self._plain, None)
        self._only = served.signature.inputs[0] if len(served.signature.inputs) == 1 else None
        if self._only is not None and not self._only.datatype.is_float:
            self._only = None

    def read(self, headers: Headers, body: bytes) -> Question:
        """Decode JSON, with binary tensors behind it where the header says so."""
        json_length = headers.get(JSON_LENGTH)
        if self._only is not None and json_length is None:
            inputs = self._read_floats(self._only, body)
            if inputs is not None:
                return Question(inputs, self._signature.check(inputs), self._write_plain)
        tail: memoryview | None = None
        if json_length is not None:
            end = _length(json_length, len(body))
            body, tail = body[:end], memoryview(body)[end:]
        request = self._decode(body)
        inputs = self._read_inputs(request.inputs, tail)
        rows = self._signature.check(inputs)
        if request.outputs is None and request.parameters is None and request.id is None:
            return Question(inputs, rows, self._write_plain)
        return Question(inputs, rows, self._writer(request))

    def _read_floats(self, spec: TensorSpec, body: bytes) -> dict[str, Array] | None:
        """The one float tensor of a plain request; None sends any other the long way."""
        try:
            request = _FLOATS.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if len(request.inputs) != 1:
            return None
        tensor = request.inputs[0]
        if tensor.name != spec.name or tensor.datatype != spec.datatype:
            return None
        shape = check_shape(tensor.shape, spec.name)
        return {spec.name: from_floats(spec.datatype, shape, tensor.data, spec.name)}

    def _decode(self, body: bytes) -> InferRequest:
        try:
            try:
                return self._decoder.decode(body)
            except msgspec.ValidationError:
                raise
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                return msgspec.convert(read_lenient(body, error), InferRequest)
        except msgspec.ValidationError as error:
            raise Invalid("bad_request", f"this is no v2 inference request: {error}") from None

    def _read_inputs(self, tensors: Sequence[Tensor], tail: memoryview | None) -> dict[str, Array]:
        arrays: dict[str, Array] = {}
        position = 0
        for tensor in tensors:
            name = tensor.name
            spec = input_spec(self._specs, name, tensor.datatype)
            if name in arrays:
                raise Invalid("duplicate_input", f"input '{name}' is given twice", field=name)
            shape = check_shape(tensor.shape, name)
            size = None
            if tensor.parameters:
                refuse_unsupported(tensor.parameters, name)
                size = tensor.parameters.get("binary_data_size")
            if size is None:
                arrays[name] = from_list(spec.datatype, shape, tensor.data, name)
                continue
            if tail is None or type(size) is not int or not 0 <= size <= len(tail) - position:
                raise Invalid(
                    "bad_binary",
                    f"input '{name}' says it has {size!s:.20} binary bytes, which the body does "
                    "not hold; is Inference-Header-Content-Length set?",
                    field=name,
                )
            piece = tail[position : position + size]
            arrays[name] = from_raw(spec.datatype, shape, piece, name)
            position += size
        if tail is not None and position != len(tail):
            raise Invalid("bad_binary", f"{len(tail) - position} binary bytes belong to no input")
        return arrays

    def _writer(self, request: InferRequest) -> "partial[Answer]":
        everything_binary = _flag(request.parameters, "binary_data_output", default=False)
        if request.outputs is None:
            chosen, binary = self._plain, [everything_binary] * len(self._plain)
        else:
            chosen, binary = [], []
            for wanted in request.outputs:
                spec = output_spec(self._outputs, wanted.name)
                if wanted.parameters:
                    refuse_unsupported(wanted.parameters, spec.name)
                chosen.append((spec.name, _opening(spec), spec.datatype is Datatype.BYTES))
                binary.append(_flag(wanted.parameters, "binary_data", default=everything_binary))
        if any(binary):
            return partial(self._write_binary, chosen, binary, request.id)
        return partial(self._write_json, chosen, request.id)

    def _write_json(
        self, chosen: Sequence[tuple[str, bytes, bool]], request_id: str | None, call: Call
    ) -> Answer:
        outputs = call.outputs or {}
        parts = [self._opening(request_id)]
        for name, opening, is_text in chosen:
            array = outputs[name]
            parts += (opening, _shape(array), b',"data":', _json_data(array, is_text), b"},")
        return Answer(_close(parts))

    def _write_binary(
        self,
        chosen: Sequence[tuple[str, bytes, bool]],
        binary: Sequence[bool],
        request_id: str | None,
        call: Call,
    ) -> Answer:
        outputs = call.outputs or {}
        parts = [self._opening(request_id)]
        raws: list[bytes] = []
        for (name, opening, is_text), as_binary in zip(chosen, binary, strict=True):
            array = outputs[name]
            parts += (opening, _shape(array))
            if as_binary:
                raw = to_raw(array)
                raws.append(raw)
                parts.append(b',"parameters":{"binary_data_size":%d}},' % len(raw))
            else:
                parts += (b',"data":', _json_data(array, is_text), b"},")
        head = _close(parts)
        return Answer(
            b"".join((head, *raws)),
            b"application/octet-stream",
            b"inference-header-content-length: %d\r\n" % len(head),
        )

    def _opening(self, request_id: str | None) -> bytes:
        if request_id is None:
            return self._head + b',"outputs":['
        return self._head + b',"id":' + orjson.dumps(request_id) + b',"outputs":['


_FEW: Final = 64


def _opening(spec: TensorSpec) -> bytes:
    return b'{"name":%b,"datatype":"%b","shape":' % (
        orjson.dumps(spec.name),
        spec.datatype.encode(),
    )


def _close(parts: list[bytes]) -> bytes:
    # Every output ends in a comma; a request for no outputs leaves none to cut.
    body = b"".join(parts)
    return (body[:-1] if body.endswith(b",") else body) + b"]}"


def _shape(array: Array) -> bytes:
    shape = array.shape
    return b"[%d]" % shape if len(shape) == 1 else orjson.dumps(shape)


def _json_data(array: Array, is_text: bool) -> bytes:
    flat = array.reshape(-1)
    # Floats are written by orjson from the array, in the fewest digits that keep their own type;
    # for a few of anything else a list is quicker.
    if flat.dtype.kind == "f" or (flat.size > _FEW and not is_text):
        return orjson.dumps(np.ascontiguousarray(flat), option=orjson.OPT_SERIALIZE_NUMPY)
    return orjson.dumps(flat.tolist())


def _flag(parameters: dict[str, Any] | None, name: str, *, default: bool) -> bool:
    value = parameters.get(name, default) if parameters else default
    if not isinstance(value, bool):
        raise Invalid("bad_parameter", f"parameter '{name}' is true or false", field=name)
    return value


def _length(value: bytes, body_length: int) -> int:
    if not value.isdigit() or len(value) > 19 or int(value) > body_length:
        raise Invalid(
            "bad_binary",
            "Inference-Header-Content-Length must be a number of bytes, no more than the body has",
            field="Inference-Header-Content-Length",
        )
    return int(value)
