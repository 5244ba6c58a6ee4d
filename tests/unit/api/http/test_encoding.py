import gzip
import zlib

import pytest
from backports import zstd
from hypothesis import given
from hypothesis import strategies as st

from modelyard.api.http.encoding import NotAcceptable, coding_for, decompress
from modelyard.core.errors import Exhausted, Invalid

BODY = b'{"inputs":[]}' * 100


@pytest.mark.parametrize("name", [b"gzip", b"deflate", b"zstd"])
@given(body=st.binary(max_size=3000))
def test_what_one_side_packs_the_other_unpacks(name: bytes, body: bytes) -> None:
    """Every coding of an answer is one that a request may have."""
    coding = coding_for(name)
    assert coding is not None
    assert coding.name == name
    assert decompress(coding.pack(body), name, 3000) == body


@pytest.mark.parametrize(
    ("name", "packed"),
    [
        (b"gzip", gzip.compress(BODY, mtime=0)),
        (b"X-GZIP ", gzip.compress(BODY, mtime=0)),
        (b"deflate", zlib.compress(BODY)),
        (b"zstd", zstd.compress(BODY)),
        (b"identity", BODY),
    ],
)
def test_bodies_of_other_packers_are_unpacked(name: bytes, packed: bytes) -> None:
    """The standard library's own writers are understood."""
    assert decompress(packed, name, len(BODY)) == BODY


@pytest.mark.parametrize("name", [b"gzip", b"deflate", b"zstd"])
def test_a_bomb_is_never_unpacked_past_the_limit(name: bytes) -> None:
    """A small body that grows large is refused, and no more than the limit is ever made."""
    coding = coding_for(name)
    assert coding is not None
    packed = coding.pack(bytes(64 * 1024 * 1024))
    assert len(packed) < 1024 * 1024
    with pytest.raises(Exhausted, match="unpacks to more"):
        decompress(packed, name, 1000)


def test_a_zstd_window_that_no_decoder_must_have_is_refused() -> None:
    """RFC 9659: a window over 8 MB may cost memory that no answer is worth."""
    wide = {zstd.CompressionParameter.window_log: 27}
    compressor = zstd.ZstdCompressor(options=wide)
    packed = compressor.compress(bytes(1000)) + compressor.flush()
    with pytest.raises(Invalid, match="not zstd"):
        decompress(packed, b"zstd", 2000)


@pytest.mark.parametrize("name", [b"gzip", b"deflate", b"zstd"])
def test_a_broken_stream_is_refused(name: bytes) -> None:
    """Neither other bytes nor half a stream pass for a body, nor the first of two."""
    coding = coding_for(name)
    assert coding is not None
    whole = coding.pack(BODY)
    for packed in (b"no stream at all", whole[:-3], whole + whole, whole + b"more"):
        with pytest.raises(Invalid) as caught:
            decompress(packed, name, 10_000)
        assert caught.value.code == "bad_encoding"


def test_an_unknown_coding_is_refused() -> None:
    """The answer names the codings that there are."""
    with pytest.raises(Invalid, match="gzip, deflate, zstd"):
        decompress(b"", b"br", 10)


@pytest.mark.parametrize(
    ("header", "name"),
    [
        (b"gzip", b"gzip"),
        (b"x-gzip", b"gzip"),
        (b"GZIP", b"gzip"),
        (b"gzip, deflate", b"gzip"),
        (b"gzip, deflate, br, zstd", b"zstd"),
        (b"gzip;q=1.0, zstd;q=0.5", b"gzip"),
        (b"gzip;q=0, deflate", b"deflate"),
        (b"*", b"zstd"),
        (b"*;q=0.5, zstd;q=0", b"gzip"),
        (b"br", None),
        (b"", None),
        (b"identity", None),
        (b"identity, gzip;q=0.5", None),
        (b"gzip;q=nonsense", None),
        (b"gzip;q=7", None),
        (b"gzip;q=nan", None),
    ],
)
def test_the_best_liked_coding_is_taken(header: bytes, name: bytes | None) -> None:
    """Weights decide; among equals the one that packs most."""
    coding = coding_for(header)
    assert (None if coding is None else coding.name) == name


@pytest.mark.parametrize("header", [b"gzip, identity;q=0", b"gzip, *;q=0"])
def test_a_caller_who_takes_nothing_unpacked_gets_even_little_packed(header: bytes) -> None:
    """Excluding identity demands a coding."""
    coding = coding_for(header)
    assert coding is not None
    assert (coding.name, coding.is_demanded) == (b"gzip", True)


@pytest.mark.parametrize("header", [b"*;q=0", b"br, identity;q=0", b"br, *;q=0"])
def test_a_caller_who_takes_nothing_is_refused(header: bytes) -> None:
    """What excludes every form of an answer cannot be answered."""
    with pytest.raises(NotAcceptable):
        coding_for(header)
