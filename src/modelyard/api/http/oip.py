"""The Open Inference Protocol v2 over HTTP: JSON tensors and the binary tensor data extension.

A table may be sent as the signature has it, or as one tensor a column, by the columns' names.
Sources: KServe, Open Inference Protocol, "Inference"; Triton, extensions for binary tensor data,
classification and schedule policy.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec
import numpy as np
import orjson

from modelyard.api import classification
from modelyard.api.http.floats import FloatReader
from modelyard.api.http.lenient import read_lenient
from modelyard.api.http.packed import KnownJson, KnownJsons, Piece
from modelyard.api.http.wire import Answer, Question
from modelyard.api.parameters import read_schedule
from modelyard.api.refusals import (
    column_datatype,
    input_spec,
    output_spec,
    refuse_unsupported,
)
from modelyard.core.call import Call
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.outputs import Part
from modelyard.core.ports import Arrays, Headers, Served
from modelyard.core.signature import TensorSpec
from modelyard.core.table import TableReader
from modelyard.core.tensors import check_shape, from_list, from_raw, to_raw

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
        self._plain = [_Chosen(spec) for spec in served.signature.outputs]
        self._binary = [_Chosen(spec, binary=True) for spec in served.signature.outputs]
        self._jsons = KnownJsons()
        self._table = TableReader(served.signature) if served.signature.is_table else None
        self._floats = (
            FloatReader(served.signature) if FloatReader.suits(served.signature) else None
        )

    def read(self, headers: Headers, body: bytes) -> Question:
        """Decode JSON, with binary tensors behind it where the header says so."""
        json_length = headers.get(JSON_LENGTH)
        if self._floats is not None and json_length is None:
            read = self._floats.read(body)
            if read is not None:
                return Question(read[0], read[1], self._write_plain)
        tail: memoryview | None = None
        if json_length is not None:
            end = _length(json_length, len(body))
            body, tail = body[:end], memoryview(body)[end:]
            known = self._jsons.find(body)
            arrays = None if known is None else known.read(tail)
            if known is not None and arrays is not None:
                return Question(arrays, self._signature.check(arrays), known.write)
        request = self._decode(body)
        inputs = self._read_inputs(request.inputs, tail)
        rows = self._signature.check(inputs)
        if request.outputs is None and request.parameters is None and request.id is None:
            return Question(inputs, rows, self._write_plain)
        question = Question(inputs, rows, self._writer(request), read_schedule(request.parameters))
        if tail is not None and self._jsons.is_worth(body):
            self._learn(body, request, question)
        return question

    def _learn(self, json: bytes, request: InferRequest, question: Question) -> None:
        """Keep what the JSON before binary tensors said, if that was all of the request."""
        if question.schedule is not None or question.inputs.keys() != self._specs.keys():
            return
        pieces = []
        for tensor in request.inputs:
            spec = self._specs.get(tensor.name)
            size = (tensor.parameters or {}).get("binary_data_size")
            shape = tuple(tensor.shape)
            # A table that came by its columns has other shapes than its signature's inputs.
            if (
                spec is None
                or type(size) is not int
                or tensor.datatype != spec.datatype
                or shape != question.inputs[spec.name].shape
            ):
                return
            pieces.append(Piece(spec.name, spec.datatype, shape, size))
        total = sum(piece.size for piece in pieces)
        self._jsons.keep(json, KnownJson(tuple(pieces), total, question.write))

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
        table = self._table
        if table is not None and not table.is_by_column(
            (tensor.name, tensor.datatype, len(tensor.shape)) for tensor in tensors
        ):
            table = None
        arrays: dict[str, Array] = {}
        position = 0
        for tensor in tensors:
            name = tensor.name
            if table is None:
                datatype = input_spec(self._specs, name, tensor.datatype).datatype
            else:
                datatype = column_datatype(name, tensor.datatype)
            if name in arrays:
                raise Invalid("duplicate_input", f"input '{name}' is given twice", field=name)
            shape = check_shape(tensor.shape, name)
            size = None
            if tensor.parameters:
                refuse_unsupported(tensor.parameters, name)
                size = tensor.parameters.get("binary_data_size")
            if size is None:
                arrays[name] = from_list(datatype, shape, tensor.data, name)
                continue
            if tail is None or type(size) is not int or not 0 <= size <= len(tail) - position:
                raise Invalid(
                    "bad_binary",
                    f"input '{name}' says it has {size!s:.20} binary bytes, which the body does "
                    "not hold; is Inference-Header-Content-Length set?",
                    field=name,
                )
            piece = tail[position : position + size]
            arrays[name] = from_raw(datatype, shape, piece, name)
            position += size
        if tail is not None and position != len(tail):
            raise Invalid("bad_binary", f"{len(tail) - position} binary bytes belong to no input")
        return arrays if table is None else table.arrays(arrays)

    def _writer(self, request: InferRequest) -> "partial[Answer]":
        binary = _flag(request.parameters, "binary_data_output", default=False)
        if request.outputs is None:
            chosen = self._binary if binary else self._plain
        else:
            chosen = [self._choose(wanted, binary) for wanted in request.outputs]
        if any(each.binary for each in chosen):
            return partial(self._write_binary, chosen, request.id)
        return partial(self._write_json, chosen, request.id)

    def _choose(self, wanted: WantedOutput, everything_binary: bool) -> "_Chosen":
        spec = output_spec(self._outputs, wanted.name)
        parameters = wanted.parameters
        if not parameters:
            return _Chosen(spec, binary=everything_binary)
        refuse_unsupported(parameters, spec.name)
        binary = _flag(parameters, "binary_data", default=everything_binary)
        count = parameters.get(classification.PARAMETER)
        classes = 0 if count is None else classification.class_count(spec, count)
        return _Chosen(spec, binary=binary, classes=classes, batched=self._signature.batched)

    def _write_plain(self, call: Call) -> Answer:
        """All outputs as JSON, no id: where every call of a batch has one row, all at once."""
        outputs = call.outputs
        if type(outputs) is Part and outputs.batch.is_row_each:
            texts = outputs.batch.texts
            try:
                answers = texts[self]
            except KeyError:
                answers = texts[self] = self._row_answers(outputs.batch.arrays)
            if answers is not None:
                return Answer(answers[outputs.start])
        return self._write_json(self._plain, None, call)

    def _row_answers(self, outputs: Arrays) -> list[bytes] | None:
        """Each row's whole answer; None where an output cannot be cut at its rows."""
        columns: list[list[bytes]] = []
        for each in self._plain:
            rows = _row_texts(each.opening, outputs[each.spec.name])
            if rows is None:
                return None
            columns.append(rows)
        opening = self._opening(None)
        return [opening + b",".join(row) + b"]}" for row in zip(*columns, strict=True)]

    def _write_json(
        self, chosen: "Sequence[_Chosen]", request_id: str | None, call: Call
    ) -> Answer:
        outputs = call.outputs or {}
        parts = [self._opening(request_id)]
        for each in chosen:
            array = each.of(outputs)
            parts += (each.opening, _shape(array), b',"data":', _json_data(array, each.text), b"},")
        return Answer(_close(parts))

    def _write_binary(
        self, chosen: "Sequence[_Chosen]", request_id: str | None, call: Call
    ) -> Answer:
        outputs = call.outputs or {}
        parts = [self._opening(request_id)]
        raws: list[bytes] = []
        for each in chosen:
            array = each.of(outputs)
            parts += (each.opening, _shape(array))
            if each.binary:
                raw = to_raw(array)
                raws.append(raw)
                parts.append(b',"parameters":{"binary_data_size":%d}},' % len(raw))
            else:
                parts += (b',"data":', _json_data(array, each.text), b"},")
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
_MANY: Final = 64 * 1024


class _Chosen:
    """One output of an answer: how it begins, and whether its data is text, binary, or classes."""

    __slots__ = ("batched", "binary", "classes", "opening", "spec", "text")

    def __init__(
        self, spec: TensorSpec, *, binary: bool = False, classes: int = 0, batched: bool = True
    ) -> None:
        datatype = Datatype.BYTES if classes else spec.datatype
        self.spec = spec
        self.binary = binary
        self.classes = classes
        self.batched = batched
        self.text = datatype is Datatype.BYTES
        self.opening = b'{"name":%b,"datatype":"%b","shape":' % (
            orjson.dumps(spec.name),
            datatype.encode(),
        )

    def of(self, outputs: Arrays) -> Array:
        """The output's array, or its best classes."""
        array = outputs[self.spec.name]
        if not self.classes:
            return array
        return classification.best_classes(self.spec, array, self.classes, batched=self.batched)


def _close(parts: list[bytes]) -> bytes:
    # Every output ends in a comma; a request for no outputs leaves none to cut.
    body = b"".join(parts)
    return (body[:-1] if body.endswith(b",") else body) + b"]}"


def _row_texts(opening: bytes, array: Array) -> list[bytes] | None:
    """An output of one row as JSON, for each row of a batch's: one encoding, then cut."""
    if array.dtype.kind == "O" or array.ndim not in (1, 2) or not array.size:
        return None
    text = orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
    # No line break stands in JSON text: it marks where to cut.
    if array.ndim == 1:
        head, between, body = opening + b'[1],"data":[', b",", text[1:-1]
    else:
        head, between = opening + b'[1,%d],"data":[' % array.shape[1], b"],["
        body = text[2:-2]
    return (head + body.replace(between, b"]}\n" + head) + b"]}").split(b"\n")


def _shape(array: Array) -> bytes:
    shape = array.shape
    return b"[%d]" % shape if len(shape) == 1 else orjson.dumps(shape)


def _json_data(array: Array, is_text: bool) -> bytes:
    flat = array.reshape(-1)
    # Floats are written by orjson from the array, in the fewest digits that keep their own type;
    # for a few of anything else a list is quicker.
    if flat.size > _MANY:
        # orjson holds the interpreter: in pieces, the loop gets its turn in between.
        pieces = np.split(flat, range(_MANY, flat.size, _MANY))
        return b"[%b]" % b",".join([_json_data(piece, is_text)[1:-1] for piece in pieces])
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
