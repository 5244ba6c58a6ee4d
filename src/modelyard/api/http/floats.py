"""The one float tensor that nearly every request holds, read in as few steps as there can be."""

import struct
from typing import Final

import msgspec
import numpy as np

from modelyard.core.datatypes import PACK_CODES
from modelyard.core.ports import Arrays
from modelyard.core.signature import FREE, Signature, is_surely_finite
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


class FloatReader:
    """Reads such requests for a signature whose only input is a float tensor."""

    def __init__(self, signature: Signature) -> None:
        spec = signature.inputs[0]
        self._signature = signature
        self._name = spec.name
        self._datatype = spec.datatype
        self._dtype = spec.datatype.dtype
        self._is_picky = spec.is_picky
        self._row: list[int] | None = None
        if signature.batched and len(spec.shape) == 2 and spec.shape[1] != FREE:
            width = spec.shape[1]
            self._row = [1, width]
            self._width = width
            self._pack = struct.Struct(f"<{width}{PACK_CODES[spec.datatype]}").pack

    @staticmethod
    def suits(signature: Signature) -> bool:
        """Whether a signature has such an input."""
        return len(signature.inputs) == 1 and signature.inputs[0].datatype.is_float

    def read(self, body: bytes) -> tuple[Arrays, int] | None:
        """Checked inputs and their rows; None sends any other request the long way.

        Raises `Invalid` as `Signature.check` does.
        """
        try:
            request = _DECODER.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if len(request.inputs) != 1:
            return None
        tensor = request.inputs[0]
        name, data = self._name, tensor.data
        if tensor.name != name or tensor.datatype != self._datatype:
            return None
        if tensor.shape == self._row and len(data) == self._width:
            try:
                array = np.ndarray((1, self._width), self._dtype, self._pack(*data))
            except OverflowError:
                pass
            else:
                if not self._is_picky or is_surely_finite(array):
                    return {name: array}, 1
        shape = check_shape(tensor.shape, name)
        inputs = {name: from_floats(self._datatype, shape, data, name)}
        return inputs, self._signature.check(inputs)
