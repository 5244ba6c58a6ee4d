"""gRPC's own part of the wire: message prefixes, compression and timeouts. No I/O.

Source: gRPC over HTTP/2, "Requests" and "Length-Prefixed-Message".
"""

import time
import zlib
from typing import Final

from modelyard.core.errors import Exhausted, Invalid

PREFIX_BYTES: Final = 5
"""A flag that says whether the message is compressed, and its length in four bytes."""
ENCODINGS: Final[dict[bytes, int]] = {b"gzip": 31, b"deflate": 15}
"""The compressions that are read here, each with zlib's window bits for it."""
_UNITS_NS: Final = {
    b"H": 3_600_000_000_000,
    b"M": 60_000_000_000,
    b"S": 1_000_000_000,
    b"m": 1_000_000,
    b"u": 1_000,
    b"n": 1,
}
_DIGITS: Final = 8


def framed(message: bytes) -> bytes:
    """A message with its prefix, not compressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def unpacked(message: bytes, encoding: bytes | None, max_bytes: int) -> bytes:
    """What was compressed; raises `Exhausted` where it would be larger than a message may be."""
    bits = ENCODINGS.get(encoding or b"")
    if bits is None:
        raise Invalid(
            "bad_encoding", "the message says that it is compressed; grpc-encoding says not how"
        )
    unpacking = zlib.decompressobj(bits)
    try:
        plain = unpacking.decompress(message, max_bytes + 1)
    except zlib.error:
        raise Invalid("bad_encoding", "the compressed message is damaged") from None
    if len(plain) > max_bytes:
        raise too_large(max_bytes)
    if not unpacking.eof:
        raise Invalid("bad_encoding", "the compressed message is cut short")
    if unpacking.unused_data:
        raise Invalid("bad_encoding", "the compressed message goes on behind its end")
    return plain


def too_large(max_bytes: int) -> Exhausted:
    """What a message is told that is larger than the server reads."""
    return Exhausted("too_large", f"a message may have {max_bytes} bytes here; send less at a time")


def deadline_of(timeout: bytes) -> int:
    """The `time.monotonic_ns` moment that `grpc-timeout` means; raises `Invalid`."""
    digits, unit = timeout[:-1], _UNITS_NS.get(timeout[-1:])
    if unit is None or not digits.isdigit() or len(digits) > _DIGITS:
        raise Invalid("bad_timeout", "grpc-timeout is up to eight digits and one of H M S m u n")
    return time.monotonic_ns() + int(digits) * unit
