"""What calls are measured by."""

from typing import Any, cast

import numpy as np
import pytest

from modelyard.core.call import Call
from modelyard.core.usage import Unit, amount_before


@pytest.mark.parametrize(
    ("inputs", "size"),
    [
        ({"x": np.zeros((3, 2), np.float32)}, 24),
        ({"x": np.array(["a" * 1000], object)}, 1000),
        ({"x": np.array([["ä", ""], ["€", "a\ud800"]], object)}, 9),
        ({"x": np.zeros(0, object), "y": np.zeros(1, np.int64)}, 8),
    ],
)
def test_bytes_are_those_that_were_sent(inputs: dict[str, Any], size: int) -> None:
    """Of text too, however long each is: an array of it holds only where each text lies."""
    call = Call(cast(Any, None), inputs, 1, lambda call: None)
    assert amount_before(call, Unit.BYTE) == size
