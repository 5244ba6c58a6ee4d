"""gRPC's own part of the wire."""

import gzip
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.api.grpc.framing import deadline_of, framed, unpacked
from modelyard.core.errors import Exhausted, Invalid


@given(st.binary(max_size=2000))
def test_a_message_has_its_length_before_it(message: bytes) -> None:
    """A flag that says that it is not packed, then the length, then the message."""
    data = framed(message)
    assert (data[0], int.from_bytes(data[1:5], "big"), data[5:]) == (0, len(message), message)


@pytest.mark.parametrize(
    ("timeout", "wait_s"),
    [(b"2H", 7200), (b"3M", 180), (b"99999999S", 99999999), (b"1500m", 1.5), (b"5u", 5e-6)],
)
def test_a_timeout_is_read_in_every_unit(timeout: bytes, wait_s: float) -> None:
    """Hours to nanoseconds, up to eight digits."""
    before = time.monotonic_ns()
    deadline_ns = deadline_of(timeout)
    assert before <= deadline_ns - int(wait_s * 1e9) <= time.monotonic_ns()


@pytest.mark.parametrize(
    "timeout", [b"", b"S", b"1", b"1s", b"-1S", b"1.5S", b"123456789n", b"1 S"]
)
def test_a_timeout_that_is_none_is_refused(timeout: bytes) -> None:
    """Nothing is guessed: a deadline misread is an answer thrown away."""
    with pytest.raises(Invalid, match="grpc-timeout"):
        deadline_of(timeout)


@given(st.binary(max_size=2000), st.integers(0, 2000))
def test_a_packed_message_is_bounded_by_what_it_holds(message: bytes, max_bytes: int) -> None:
    """What is larger than a message may be is refused, however small it came."""
    packed = gzip.compress(message)
    if len(message) > max_bytes:
        with pytest.raises(Exhausted):
            unpacked(packed, b"gzip", max_bytes)
    else:
        assert unpacked(packed, b"gzip", max_bytes) == message
