"""Packed bodies, both ways: gzip, deflate and zstd.

Sources: RFC 9110, 8.4 and 12.5.3 (content codings and their negotiation); RFC 1950 to 1952; RFC
8878 and 9659 (zstd, and the 8 MB window that a decoder must have and ours does not exceed).
"""

import functools
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from modelyard.core.errors import Exhausted, Invalid

WORTH_PACKING: Final = 1024
"""Answers of fewer bytes are sent as they are: packing them would save no packet."""
_ZSTD_WINDOW_LOG: Final = 23
_LEVEL: Final = 1
"""The quickest level of each coding: a caller waits for the answer, nobody stores it."""


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes | bytearray, max_length: int, /) -> bytes: ...


def decompress(body: bytes | bytearray, encoding: bytes, limit: int) -> bytes:
    """Undo gzip, deflate or zstd, never making more than `limit` bytes."""
    name = encoding.strip().lower()
    if name == b"identity":
        return bytes(body)
    make = _UNPACKERS.get(name)
    if make is None:
        raise Invalid(
            "unsupported_encoding",
            f"content encoding '{name.decode('latin-1'):.20}' is not understood; use gzip, "
            "deflate, zstd or none",
            field="Content-Encoding",
        )
    unpacker = make()
    try:
        plain = unpacker.decompress(body, limit + 1)
    except (zlib.error, _zstd_error()) as error:
        raise Invalid("bad_encoding", f"the body is not {name.decode()}: {error}") from None
    if len(plain) > limit:
        raise Exhausted("body_too_large", f"the body unpacks to more than {limit} bytes")
    if not unpacker.eof:
        raise Invalid("bad_encoding", f"the body ends inside its {name.decode()} stream")
    if unpacker.unused_data:
        # To answer for the first of several would be a wrong answer that looks like a right one.
        raise Invalid(
            "bad_encoding", f"the body goes on behind its {name.decode()} stream; pack it in one"
        )
    return plain


@dataclass(frozen=True, slots=True)
class Coding:
    """How an answer's body may be packed: the coding's name, and what packs."""

    name: bytes
    pack: Callable[[bytes], bytes]
    is_demanded: bool = False
    """Whether even a small answer must be packed: the caller takes none that is not."""


class NotAcceptable(Invalid):
    """The caller takes no form of an answer that there is."""


@functools.lru_cache(maxsize=256)
def coding_for(accept_encoding: bytes) -> Coding | None:
    """The coding that an `Accept-Encoding` header likes best, None for none.

    Of codings liked alike zstd comes before gzip before deflate: it packs most in the least time.
    Raises `NotAcceptable` where the header excludes every form of an answer.
    """
    weights = quality_values(accept_encoding)
    others = weights.get(b"*", 0.0)
    name = max(_PACKERS, key=lambda each: weights.get(each, others))
    weight = weights.get(name, others)
    # Unless it is named or excluded with the rest, an unpacked answer is always acceptable.
    plain = weights.get(b"identity", 1.0 if b"*" not in weights else others)
    if weight <= 0.0:
        if plain <= 0.0:
            raise NotAcceptable(
                "not_acceptable",
                "Accept-Encoding allows none of zstd, gzip, deflate and identity",
                field="Accept-Encoding",
            )
        return None
    if b"identity" in weights and plain > weight:
        return None
    return Coding(name, _PACKERS[name], is_demanded=plain <= 0.0)


def quality_values(header: bytes) -> dict[bytes, float]:
    """The items of a negotiating header by lower-case name, with their weights from 0 to 1."""
    weights = {}
    for item in header.lower().split(b","):
        name, *parameters = (part.strip() for part in item.split(b";"))
        if not name:
            continue
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition(b"=")
            if key.strip() == b"q":
                weight = _quality(value.strip())
        weights[_ALIASES.get(name, name)] = weight
    return weights


def _quality(text: bytes) -> float:
    # One that is no number from 0 to 1 is no wish that could be kept.
    try:
        value = float(text)
    except ValueError:
        return 0.0
    return value if 0.0 <= value <= 1.0 else 0.0


@functools.cache
def _zstd() -> Any:
    # Loaded with the first body that needs it: few callers speak it.
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


def _zstd_error() -> type[Exception]:
    error: type[Exception] = _zstd().ZstdError
    return error


def _zstd_unpacker() -> _Unpacker:
    zstd = _zstd()
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    unpacker: _Unpacker = zstd.ZstdDecompressor(options=options)
    return unpacker


def _zstd_pack(body: bytes) -> bytes:
    packed: bytes = _zstd().compress(body, _LEVEL)
    return packed


def _gzip_pack(body: bytes) -> bytes:
    return zlib.compress(body, _LEVEL, zlib.MAX_WBITS + 16)


def _deflate_pack(body: bytes) -> bytes:
    return zlib.compress(body, _LEVEL)


def _zlib_unpacker() -> _Unpacker:
    # 32 added to the window size lets zlib recognise either header by itself.
    return zlib.decompressobj(wbits=zlib.MAX_WBITS + 32)


_ALIASES: Final = {b"x-gzip": b"gzip"}
_UNPACKERS: Final[dict[bytes, Callable[[], _Unpacker]]] = {
    b"gzip": _zlib_unpacker,
    b"x-gzip": _zlib_unpacker,
    b"deflate": _zlib_unpacker,
    b"zstd": _zstd_unpacker,
}
_PACKERS: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"zstd": _zstd_pack,
    b"gzip": _gzip_pack,
    b"deflate": _deflate_pack,
}
