"""Packed bodies: gzip and deflate, never unpacked past a limit."""

import zlib

from modelyard.core.errors import Exhausted, Invalid


def decompress(body: bytes | bytearray, encoding: bytes, limit: int) -> bytes:
    """Undo gzip or deflate, never making more than `limit` bytes."""
    name = encoding.strip().lower()
    if name == b"identity":
        return bytes(body)
    if name not in (b"gzip", b"deflate"):
        raise Invalid(
            "unsupported_encoding",
            f"content encoding '{name.decode('latin-1'):.20}' is not understood; use gzip, "
            "deflate or none",
            field="Content-Encoding",
        )
    # 32 added to the window size lets zlib recognise either header by itself.
    inflater = zlib.decompressobj(wbits=zlib.MAX_WBITS + 32)
    try:
        plain = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise Invalid("bad_encoding", f"the body is not {name.decode()}: {error}") from None
    if len(plain) > limit:
        raise Exhausted("body_too_large", f"the body unpacks to more than {limit} bytes")
    if not inflater.eof:
        raise Invalid("bad_encoding", f"the body ends inside its {name.decode()} stream")
    return plain
