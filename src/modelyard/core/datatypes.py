"""The tensor datatypes of the Open Inference Protocol and their numpy twins.

`BYTES` is held in memory as an object array of `str`: ONNX defines its strings as UTF-8, and so
does every column of text in a table.
"""

from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import Invalid

Array = NDArray[Any]
"""A tensor; its element type is data (a `Datatype`), not something a type checker can know."""


class Datatype(StrEnum):
    """Name of an element type as the Open Inference Protocol spells it."""

    BOOL = "BOOL"
    UINT8 = "UINT8"
    UINT16 = "UINT16"
    UINT32 = "UINT32"
    UINT64 = "UINT64"
    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FP16 = "FP16"
    FP32 = "FP32"
    FP64 = "FP64"
    BYTES = "BYTES"

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype, little-endian where it matters; `object` for BYTES."""
        return _DTYPES[self]

    @property
    def is_float(self) -> bool:
        """Whether the type can hold NaN."""
        return self in _FLOATS

    @property
    def is_integer(self) -> bool:
        """Whether the type is a signed or unsigned integer."""
        return self in _INTEGERS

    @staticmethod
    def of(dtype: np.dtype[Any]) -> "Datatype":
        """The datatype that holds a numpy dtype's values; raises `Invalid` where none does."""
        if dtype.kind in "OSUT":
            return Datatype.BYTES
        found = _BY_DTYPE.get(dtype.newbyteorder("="))
        if found is None:
            raise Invalid("unsupported_dtype", f"no protocol datatype holds numpy's {dtype}")
        return found


_DTYPES: dict[Datatype, np.dtype[Any]] = {
    Datatype.BOOL: np.dtype(np.bool_),
    Datatype.UINT8: np.dtype(np.uint8),
    Datatype.UINT16: np.dtype("<u2"),
    Datatype.UINT32: np.dtype("<u4"),
    Datatype.UINT64: np.dtype("<u8"),
    Datatype.INT8: np.dtype(np.int8),
    Datatype.INT16: np.dtype("<i2"),
    Datatype.INT32: np.dtype("<i4"),
    Datatype.INT64: np.dtype("<i8"),
    Datatype.FP16: np.dtype("<f2"),
    Datatype.FP32: np.dtype("<f4"),
    Datatype.FP64: np.dtype("<f8"),
    Datatype.BYTES: np.dtype(object),
}
_BY_DTYPE = {dtype: name for name, dtype in _DTYPES.items() if name is not Datatype.BYTES}
_FLOATS = frozenset({Datatype.FP16, Datatype.FP32, Datatype.FP64})
_INTEGERS = frozenset(name for name in Datatype if name.startswith(("INT", "UINT")))


PACK_CODES: Final = {Datatype.FP16: "e", Datatype.FP32: "f", Datatype.FP64: "d"}
"""What `struct` calls the floats."""
