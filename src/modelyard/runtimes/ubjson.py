"""Reads Universal Binary JSON as XGBoost writes it, strictly and within bounds.

XGBoost's own reader ends the process on some truncated files and on deep nesting. Whatever this one
cannot read is not handed to it.

https://ubjson.org
"""

import struct
from typing import Any, Final

import numpy as np

from modelyard.core.errors import Invalid

_DEEPEST: Final = 32
_DTYPES: Final = {"i": "i1", "U": "u1", "I": ">i2", "l": ">i4", "L": ">i8", "d": ">f4", "D": ">f8"}
_INTEGERS: Final = {"i": ">b", "U": ">B", "I": ">h", "l": ">i", "L": ">q"}
_NUMBERS: Final = {**_INTEGERS, "d": ">f", "D": ">d"}
_CONSTANTS: Final[dict[str, object]] = {"Z": None, "T": True, "F": False}


def decode_ubjson(data: bytes) -> Any:
    """The value in these bytes, arrays of one type as numpy arrays; raises `Invalid`."""
    reader = _Reader(data)
    value = reader.value(reader.marker(), 0)
    if not reader.is_at_end:
        raise _bad("there is more behind its end")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def is_at_end(self) -> bool:
        return self._at == len(self._data)

    def marker(self) -> str:
        """The next byte, which says what follows."""
        return chr(self._take(1)[0])

    def value(self, marker: str, depth: int) -> Any:
        """What follows a marker."""
        if depth > _DEEPEST:
            raise _bad(f"it is nested deeper than {_DEEPEST} levels")
        if marker in _NUMBERS:
            return self._number(_NUMBERS[marker])
        if marker in _CONSTANTS:
            return _CONSTANTS[marker]
        if marker in ("S", "H"):
            return self._text()
        if marker == "C":
            return self.marker()
        if marker == "{":
            return self._object(depth)
        if marker == "[":
            return self._array(depth)
        raise _bad(f"0x{ord(marker):02x} at {self._at - 1} begins nothing")

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        left = self._count() if self._has("#") else None
        while left is None or left > 0:
            if left is None and self._has("}"):
                break
            key = self._text()
            if key in found:
                raise _bad(f"it has '{key:.40}' twice")
            found[key] = self.value(self.marker(), depth + 1)
            left = None if left is None else left - 1
        return found

    def _array(self, depth: int) -> Any:
        kind = self.marker() if self._has("$") else None
        if kind is not None and not self._has("#"):
            raise _bad("an array has a type and no length")
        if kind is not None or self._has("#"):
            count = self._count()
            if kind is None:
                return [self.value(self.marker(), depth + 1) for _ in range(count)]
            if kind not in _DTYPES:
                raise _bad(f"an array is of the type 0x{ord(kind):02x}")
            dtype = np.dtype(_DTYPES[kind])
            return np.frombuffer(self._take(count * dtype.itemsize), dtype)
        found = []
        while not self._has("]"):
            found.append(self.value(self.marker(), depth + 1))
        return found

    def _text(self) -> str:
        try:
            return self._take(self._count()).decode()
        except UnicodeDecodeError:
            raise _bad(f"the text that ends at {self._at} is no UTF-8") from None

    def _count(self) -> int:
        marker = self.marker()
        if marker not in _INTEGERS:
            raise _bad(f"0x{ord(marker):02x} at {self._at - 1} is no length")
        count = int(self._number(_INTEGERS[marker]))
        # Every element takes a byte at least, so a length that lies is seen before room is made.
        if not 0 <= count <= len(self._data) - self._at:
            raise _bad(f"a length of {count} at {self._at} is more than there is")
        return count

    def _number(self, form: str) -> float:
        (number,) = struct.unpack(form, self._take(struct.calcsize(form)))
        return number  # type: ignore[no-any-return]

    def _has(self, marker: str) -> bool:
        """Whether that marker is next; then it is read."""
        if self._data[self._at : self._at + 1] != marker.encode():
            return False
        self._at += 1
        return True

    def _take(self, size: int) -> bytes:
        if size > len(self._data) - self._at:
            raise _bad("it ends too early")
        self._at += size
        return self._data[self._at - size : self._at]


def _bad(reason: str) -> Invalid:
    return Invalid("bad_xgboost", f"this is no XGBoost UBJSON model: {reason}")
