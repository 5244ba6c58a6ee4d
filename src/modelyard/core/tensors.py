"""Arrays to and from what travels: nested JSON lists and the protocol's raw little-endian bytes.

Every function here is called once per tensor of a request, so each stays a few microseconds, and
every refusal is an `Invalid` that names the tensor. Sources: Open Inference Protocol v2, "Tensor
Data"; its binary tensor data extension.
"""

import math
import struct
from collections.abc import Iterator, Sequence

import numpy as np

from modelyard.core.datatypes import PACK_CODES, Array, Datatype
from modelyard.core.errors import Invalid

_LENGTH = struct.Struct("<I")
_MAX_AXES = 32
_MAX_EMPTY = 2**31
"""No body has more rows than this, and nothing that counts rows takes more than 32 bits."""
_MAX_LENGTH = 2**63


def check_shape(shape: object, field: str) -> tuple[int, ...]:
    """The shape as a tuple of lengths, refusing anything but non-negative integers."""
    if not isinstance(shape, list | tuple):
        raise _bad_shape(field)
    for length in shape:
        if type(length) is not int or not 0 <= length < _MAX_LENGTH:
            raise _bad_shape(field)
    # Data bounds every other shape; an empty one may claim axes that numpy cannot hold.
    if len(shape) > _MAX_AXES or (
        0 in shape and math.prod(length or 1 for length in shape) > _MAX_EMPTY
    ):
        raise Invalid("bad_shape", f"the shape of '{field}' is too large", field=field)
    return tuple(shape)


def _bad_shape(field: str) -> Invalid:
    return Invalid(
        "bad_shape", f"the shape of '{field}' must be a list of lengths, 0 or more", field=field
    )


def from_list(
    datatype: Datatype,
    shape: tuple[int, ...],
    data: object,
    field: str,
    *,
    flags_are_numbers: bool = False,
) -> Array:
    """A new array from JSON values, flat or nested in row-major order.

    Numbers must fit the datatype exactly in kind and range (no strings for numbers, no fractions
    for integers, no wrap-around); `null` is NaN in a float tensor. Where `flags_are_numbers`, as
    in tables, true and false count as 1 and 0 in a tensor of numbers.
    """
    if not isinstance(data, list | tuple):
        raise Invalid("bad_data", f"the data of '{field}' must be a list", field=field)
    if datatype is Datatype.BYTES:
        array = _strings(data, field)
    else:
        array = _numbers(datatype, data, field, flags_are_numbers)
    if array.size != math.prod(shape):
        raise _wrong_length(array.size, shape, field)
    return array.reshape(shape)


def from_floats(datatype: Datatype, shape: tuple[int, ...], data: list[float], field: str) -> Array:
    """A read-only array from a flat list that a typed decoder has proven to hold floats only.

    Packing refuses what is too large without a warning or a second look, in half the time of
    `from_list`.
    """
    if len(data) != math.prod(shape):
        raise _wrong_length(len(data), shape, field)
    try:
        packed = struct.pack(f"<{len(data)}{PACK_CODES[datatype]}", *data)
    except OverflowError:
        raise Invalid(
            "out_of_range", f"'{field}' holds a value too large for {datatype}", field=field
        ) from None
    return np.frombuffer(packed, datatype.dtype).reshape(shape)


def _wrong_length(count: int, shape: tuple[int, ...], field: str) -> Invalid:
    return Invalid(
        "wrong_length",
        f"'{field}' has {count} values, its shape {list(shape)} needs {math.prod(shape)}",
        field=field,
    )


def _numbers(
    datatype: Datatype, data: Sequence[object], field: str, flags_are_numbers: bool
) -> Array:
    try:
        array = np.array(data) if len(data) else np.empty(0, datatype.dtype)
    except (ValueError, OverflowError) as error:
        raise Invalid(
            "bad_data", f"the data of '{field}' is ragged or not of {datatype}", field=field
        ) from error
    kind = array.dtype.kind
    if kind == "O" and datatype.is_float:
        array, kind = _with_missing(array, datatype, field, flags_are_numbers), "f"
    if kind == "b" and flags_are_numbers and datatype is not Datatype.BOOL:
        array, kind = array.astype(np.int8), "i"
    if datatype.is_float and kind in "fiu":
        return _floats(datatype, array, field)
    if datatype.is_integer and kind == "f":
        array = _whole_numbers(data, array)
        kind = array.dtype.kind
    if datatype.is_integer and kind in "iu":
        limits = np.iinfo(datatype.dtype)
        if array.size and (int(array.min()) < limits.min or int(array.max()) > limits.max):
            raise Invalid(
                "out_of_range",
                f"'{field}' holds a value outside {datatype}'s {limits.min} to {limits.max}",
                field=field,
            )
        return array.astype(datatype.dtype, copy=False)
    if datatype is Datatype.BOOL and (kind == "b" or (kind in "iu" and _is_binary(array))):
        return array.astype(np.bool_, copy=False)
    raise Invalid(
        "wrong_datatype", f"the data of '{field}' holds values that are not {datatype}", field=field
    )


def _is_binary(array: Array) -> bool:
    return bool(np.isin(array, (0, 1)).all())


def _floats(datatype: Datatype, array: Array, field: str) -> Array:
    dtype = datatype.dtype
    if array.dtype == dtype:
        return array
    flat = array.reshape(-1)
    # No element is larger than the root of the sum of squares: where that fits, all do. Guarding
    # every cast with errstate instead costs 2 microseconds, a tenth of a small request.
    if array.dtype.kind == "f" and np.vdot(flat, flat) <= _SQUARES_THAT_FIT[datatype]:
        return array.astype(dtype)
    try:
        with np.errstate(over="raise"):
            return array.astype(dtype)
    except FloatingPointError:
        raise Invalid(
            "out_of_range", f"'{field}' holds a value too large for {datatype}", field=field
        ) from None


_SQUARES_THAT_FIT = {
    datatype: min(float(np.finfo(datatype.dtype).max) ** 2, 1e300)
    for datatype in (Datatype.FP16, Datatype.FP32)
} | {Datatype.FP64: np.inf}


def _whole_numbers(data: Sequence[object], floats: Array) -> Array:
    """The integers that numpy saw as floats, or the floats where they are none.

    JSON knows one kind of number: 3.0 is 3, and frames of floats are sent as such. And numpy makes
    floats of integers on both sides of 2**63, losing their last digits.
    """
    if np.all((np.abs(floats) <= 2**53) & (np.floor(floats) == floats)):
        return floats.astype(np.int64)
    exact = np.array(data, object)
    if all(type(value) is int for value in exact.reshape(-1)):
        try:
            return exact.astype(np.uint64)
        except OverflowError:
            return floats
    return floats


def _with_missing(array: Array, datatype: Datatype, field: str, flags_are_numbers: bool) -> Array:
    types = (int, float, bool) if flags_are_numbers else (int, float)
    values = np.empty(array.size, np.float64)
    for index, value in enumerate(array.reshape(-1)):
        if value is None:
            values[index] = np.nan
        elif type(value) in types:
            try:
                values[index] = value
            except OverflowError:
                raise Invalid(
                    "out_of_range", f"'{field}' holds a value too large for {datatype}", field=field
                ) from None
        else:
            raise Invalid(
                "wrong_datatype",
                f"the data of '{field}' holds a {type(value).__name__}, not {datatype}",
                field=field,
            )
    return values.reshape(array.shape)


def _strings(data: Sequence[object], field: str) -> Array:
    values = list(_flat_strings(data, field))
    array = np.empty(len(values), object)
    array[:] = values
    return array


def _flat_strings(data: Sequence[object], field: str, depth: int = 0) -> Iterator[str]:
    if depth > 32:
        raise Invalid("bad_data", f"the data of '{field}' is nested too deep", field=field)
    for value in data:
        if type(value) is str:
            yield value
        elif value is None:
            yield ""
        elif isinstance(value, list | tuple):
            yield from _flat_strings(value, field, depth + 1)
        else:
            raise Invalid(
                "wrong_datatype",
                f"the data of '{field}' holds a {type(value).__name__}, not a string",
                field=field,
            )


def from_raw(
    datatype: Datatype, shape: tuple[int, ...], data: bytes | memoryview, field: str
) -> Array:
    """A read-only view (numbers) or a new array (strings) over raw little-endian bytes."""
    count = math.prod(shape)
    if datatype is Datatype.BYTES:
        return _strings_from_raw(count, data, field).reshape(shape)
    needed = count * datatype.dtype.itemsize
    if len(data) != needed:
        raise Invalid(
            "wrong_length",
            f"'{field}' has {len(data)} bytes, its shape {list(shape)} of {datatype} "
            f"needs {needed}",
            field=field,
        )
    if datatype is Datatype.BOOL:
        octets = np.frombuffer(data, np.uint8)
        if octets.size and octets.max() > 1:
            raise Invalid(
                "bad_data", f"'{field}' holds a BOOL byte that is neither 0 nor 1", field=field
            )
    array = np.frombuffer(data, datatype.dtype).reshape(shape)
    # A tensor may begin anywhere in a body; native code may expect aligned elements.
    return array if array.flags.aligned else array.copy()


def _strings_from_raw(count: int, data: bytes | memoryview, field: str) -> Array:
    # Each element costs at least its four-byte length, so a false count allocates nothing.
    if count * _LENGTH.size > len(data):
        raise Invalid(
            "wrong_length", f"'{field}' is too short for {count} BYTES elements", field=field
        )
    array = np.empty(count, object)
    position = 0
    for index in range(count):
        end_of_length = position + _LENGTH.size
        if end_of_length > len(data):
            raise Invalid("wrong_length", f"'{field}' ends inside element {index}", field=field)
        end = end_of_length + _LENGTH.unpack_from(data, position)[0]
        if end > len(data):
            raise Invalid("wrong_length", f"'{field}' ends inside element {index}", field=field)
        array[index] = text(data[end_of_length:end], field)
        position = end
    if position != len(data):
        raise Invalid(
            "wrong_length", f"'{field}' has {len(data) - position} bytes too many", field=field
        )
    return array


def text(data: bytes | memoryview, field: str) -> str:
    """UTF-8 bytes as text; refuses any other bytes, which no ONNX string can hold."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise Invalid(
            "not_utf8", f"'{field}' holds a BYTES element that is not UTF-8 text", field=field
        ) from error


def to_raw(array: Array) -> bytes:
    """The array's elements as raw little-endian bytes, strings with their four-byte lengths."""
    if array.dtype.kind not in "OSU":
        return array.tobytes()
    parts: list[bytes] = []
    for value in array.reshape(-1).tolist():
        encoded = value if isinstance(value, bytes) else str(value).encode()
        parts.append(_LENGTH.pack(len(encoded)))
        parts.append(encoded)
    return b"".join(parts)
