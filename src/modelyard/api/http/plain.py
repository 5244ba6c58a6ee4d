"""Arrays as plain values that print well."""

from typing import Any

import numpy as np
import orjson

from modelyard.core.datatypes import Array


def plain_list(array: Array) -> list[Any]:
    """The array's values; floats of fewer bits as the shortest doubles that mean the same.

    So a float32 of 0.98 is 0.98 and not 0.9800000190734863: orjson knows how to write it, and
    reading that back is ten times faster than numpy's own text.
    """
    if array.dtype.kind != "f" or array.dtype.itemsize == 8:
        plain: list[Any] = array.tolist()
        return plain
    written = orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)
    read: list[Any] = orjson.loads(written)
    return read
