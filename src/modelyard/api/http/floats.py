"""The one float tensor that nearly every request holds, read in as few steps as there can be."""

import math
import struct
from typing import Final

import msgspec
import numpy as np
import orjson

from modelyard.core.datatypes import PACK_CODES
from modelyard.core.ports import Arrays
from modelyard.core.signature import FREE, Signature
from modelyard.core.tensors import check_shape, from_floats


class FloatTensor(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """An input whose data is a flat list of numbers."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float]


class FloatRequest(msgspec.Struct, frozen=True, gc=False, forbid_unknown_fields=True):
    """A request of such inputs and nothing else. Decoding proves every element a number."""

    inputs: list[FloatTensor]


_DECODER: Final = msgspec.json.Decoder(FloatRequest)
_LONG: Final = 2048
"""From how many bytes on orjson is the quicker decoder, by half, for all that it proves less."""


class FloatReader:
    """Reads such requests for a signature whose only input is a float tensor."""

    def __init__(self, signature: Signature) -> None:
        spec = signature.inputs[0]
        self._signature = signature
        self._name = spec.name
        self._datatype = spec.datatype
        self._dtype = spec.datatype.dtype
        self._row: list[int] | None = None
        if signature.batched and spec.shape and FREE not in spec.shape[1:]:
            self._row = [1, *spec.shape[1:]]
            self._row_shape = tuple(self._row)
            self._size = math.prod(self._row)
            self._pack = struct.Struct(f"<{self._size}{PACK_CODES[spec.datatype]}").pack

    @staticmethod
    def suits(signature: Signature) -> bool:
        """Whether a signature has such an input."""
        return len(signature.inputs) == 1 and signature.inputs[0].datatype.is_float

    def read(self, body: bytes) -> tuple[Arrays, int] | None:
        """Checked inputs and their rows; None sends any other request the long way.

        Raises `Invalid` as `Signature.check` does.
        """
        tensor = _decode(body) if len(body) < _LONG else _decode_long(body)
        if tensor is None:
            return None
        name, data = self._name, tensor.data
        if tensor.name != name or tensor.datatype != self._datatype:
            return None
        if tensor.shape == self._row and len(data) == self._size:
            try:
                array = np.ndarray(self._row_shape, self._dtype, self._pack(*data))
            except struct.error:
                # Not all are numbers, and the long way says which.
                return None
            except OverflowError:
                pass
            else:
                # JSON has no NaN and no infinity, and what is too large has just been refused.
                return {name: array}, 1
        elif len(body) >= _LONG:
            return None
        shape = check_shape(tensor.shape, name)
        inputs = {name: from_floats(self._datatype, shape, data, name)}
        return inputs, self._signature.check(inputs)


def _decode(body: bytes) -> FloatTensor | None:
    try:
        request = _DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return request.inputs[0] if len(request.inputs) == 1 else None


def _decode_long(body: bytes) -> FloatTensor | None:
    """The same, but for the elements of `data`, which are proven no flags, and nothing else."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    match request:
        case {
            "inputs": [
                {"name": name, "datatype": datatype, "shape": list(shape), "data": list(data)}
            ]
        }:
            only = request["inputs"][0]
            is_plain = len(request) == 1 and len(only) == len(FloatTensor.__struct_fields__)
            is_whole = all(type(length) is int for length in shape)
            if is_plain and is_whole and b"true" not in body and b"false" not in body:
                return FloatTensor(name, datatype, shape, data)
    return None
