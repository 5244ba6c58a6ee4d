"""One tensor to and from `InferTensorContents`, the protocol's typed way of carrying elements.

Protobuf's Python API hands out repeated fields element by element: 4 ms for the 150,000 floats of
an image. But a packed repeated field of fixed width *is* the array's little-endian bytes, so
floats and booleans are cut out of the serialised message instead: 0.05 ms. Source: protobuf
encoding, "Packed Repeated Fields".
"""

import math
from typing import Final

import numpy as np

from modelyard.api.grpc.messages import InferTensorContents
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.tensors import from_raw, text

_FIELDS: Final[dict[Datatype, str]] = {
    Datatype.BOOL: "bool_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}
_PACKED: Final = frozenset({Datatype.BOOL, Datatype.FP32, Datatype.FP64})
_LENGTH_DELIMITED: Final = 2
_ONE_BYTE: Final = 0x80


def has_contents(datatype: Datatype) -> bool:
    """Whether a datatype can travel typed; FP16 cannot."""
    return datatype in _FIELDS


def read_contents(
    datatype: Datatype, shape: tuple[int, ...], contents: InferTensorContents, field: str
) -> Array:
    """The array in a message; raises `Invalid` where field, number or range are not the tensor's.

    Cost: a copy for floats and booleans, 30 ns an element for the rest. Drops unknown fields.
    """
    wanted = _FIELDS.get(datatype)
    if wanted is None:
        raise Invalid(
            "no_typed_contents",
            f"{datatype} has no typed contents; send '{field}' in raw_input_contents",
            field=field,
        )
    for descriptor, _ in contents.ListFields():
        if descriptor.name != wanted:
            raise Invalid(
                "wrong_contents",
                f"'{field}' is {datatype}: its elements belong in {wanted}, not {descriptor.name}",
                field=field,
            )
    values = getattr(contents, wanted)
    count = math.prod(shape)
    if len(values) != count:
        raise Invalid(
            "wrong_length",
            f"'{field}' has {len(values)} values, its shape {list(shape)} needs {count}",
            field=field,
        )
    if datatype in _PACKED:
        contents.DiscardUnknownFields()
        size = count * datatype.dtype.itemsize
        serialised = contents.SerializeToString()
        return from_raw(datatype, shape, memoryview(serialised)[len(serialised) - size :], field)
    if datatype is Datatype.BYTES:
        strings = np.empty(count, object)
        strings[:] = [text(value, field) for value in values]
        return strings.reshape(shape)
    return _integers(datatype, np.array(values, _wire_dtype(wanted)), field).reshape(shape)


def _wire_dtype(wanted: str) -> str:
    signed = "i" if wanted.startswith("int") else "u"
    return f"<{signed}{8 if '64' in wanted else 4}"


def _integers(datatype: Datatype, values: Array, field: str) -> Array:
    if values.dtype == datatype.dtype:
        return values
    narrow = values.astype(datatype.dtype)
    if not np.array_equal(narrow, values):
        limits = np.iinfo(datatype.dtype)
        raise Invalid(
            "out_of_range",
            f"'{field}' holds a value outside {datatype}'s {limits.min} to {limits.max}",
            field=field,
        )
    return narrow


def write_contents(datatype: Datatype, array: Array, contents: InferTensorContents) -> None:
    """Put an array's elements into an empty message. The datatype must have contents."""
    name = _FIELDS[datatype]
    if datatype not in _PACKED:
        values = array.reshape(-1).tolist()
        if datatype is Datatype.BYTES:
            values = [str(value).encode() for value in values]
        getattr(contents, name).extend(values)
    elif array.size:
        payload = array.astype(datatype.dtype, copy=False).tobytes()
        number = InferTensorContents.DESCRIPTOR.fields_by_name[name].number
        contents.MergeFromString(length_delimited(number, payload))


def length_delimited(number: int, payload: bytes) -> bytes:
    """One field of a message, number below 16. Source: protobuf encoding, "Message Structure"."""
    size = len(payload)
    if size < _ONE_BYTE:
        return bytes((number << 3 | _LENGTH_DELIMITED, size)) + payload
    return bytes((number << 3 | _LENGTH_DELIMITED,)) + _varint(size) + payload


def _varint(value: int) -> bytes:
    groups = bytearray()
    while value > 0x7F:
        groups.append(value & 0x7F | 0x80)
        value >>= 7
    groups.append(value)
    return bytes(groups)
