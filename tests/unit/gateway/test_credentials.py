"""Keys as text: one spelling, bounded, and nothing but `Unauthenticated` for anything else."""

import re
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from modelyard.core.errors import Unauthenticated
from modelyard.gateway.credentials import (
    MOST_BYTES,
    Credential,
    find_token,
    new_id,
    new_secret,
    read_key,
    write_key,
)

SECRETS = st.binary(min_size=32, max_size=32)


def code_of(read: Callable[[], object]) -> str | None:
    """How it was refused; None where it was read. Any other error is the test's."""
    try:
        read()
    except Unauthenticated as error:
        return error.code
    return None


@given(SECRETS)
def test_a_key_comes_back_from_its_text(secret: bytes) -> None:
    """What was written is read, and has the form that is promised."""
    text = write_key(Credential(new_id(), secret))
    assert re.fullmatch(r"my_[a-z2-7]{12}_[a-z2-7]{52}", text)
    assert read_key(text.encode()).secret == secret


@given(SECRETS, st.integers(0, 67), st.integers(0, 255))
def test_a_key_has_one_spelling(secret: bytes, place: int, other: int) -> None:
    """A text that differs in any byte is another key or none."""
    text = write_key(Credential("abcdefghijkl", secret)).encode()
    changed = text[:place] + bytes([other]) + text[place + 1 :]
    if changed == text or code_of(lambda: read_key(changed)) == "bad_key":
        return
    key = read_key(changed)
    assert (key.id, key.secret) != ("abcdefghijkl", secret)
    assert write_key(key).encode() == changed


@given(st.binary(max_size=200))
@example(b"my_")
@example(b"my__")
@example(b"my_abcdefghijkl_" + b"a" * 51 + b"b")
@example(b"my_abcdefghijkl_" + b"a" * 52 + b"\n")
@example(b" my_abcdefghijkl_" + b"a" * 52)
@example(b"MY_ABCDEFGHIJKL_" + b"A" * 52)
@example(b"my_abcdefghijkl_" + b"a" * 46 + b"======")
@example(b"my_abcdefghij\xc3\xa4_" + b"a" * 52)
def test_what_is_no_key_is_refused_and_nothing_else(token: bytes) -> None:
    """No bytes make the reader raise anything but `Unauthenticated`."""
    assert code_of(lambda: read_key(token)) == "bad_key"


HEADER_BYTES = st.binary(max_size=80) | st.sampled_from(
    [b"", b" ", b"Bearer", b"Bearer ", b"bearer x", b"BEARER  x", b"Basic eDp5", b"x" * 9000]
)


@given(st.none() | HEADER_BYTES, st.none() | HEADER_BYTES)
def test_headers_give_a_token_or_none_or_are_refused(
    authorization: bytes | None, key: bytes | None
) -> None:
    """Nothing at all is no credential; whatever else is there is a token or refused."""
    headers = {b"host": b"here"}
    if authorization is not None:
        headers[b"authorization"] = authorization
    if key is not None:
        headers[b"x-api-key"] = key
    code = code_of(lambda: find_token(headers))
    if code is not None:
        assert (code, len(headers) > 1) == ("bad_key", True)
        return
    token = find_token(headers)
    assert (token is None) == (len(headers) == 1)
    assert token is None or 0 < len(token) <= MOST_BYTES


@pytest.mark.parametrize("scheme", [b"Bearer ", b"bearer ", b"BEARER   "])
def test_the_scheme_is_read_in_any_case(scheme: bytes) -> None:
    """RFC 7235: schemes have no case."""
    assert find_token({b"authorization": scheme + b"my_x"}) == b"my_x"


def test_two_that_agree_are_one() -> None:
    """A client that sends both headers is let in where they say the same, and only there."""
    both = {b"authorization": b"Bearer my_x", b"x-api-key": b"my_x"}
    assert find_token(both) == b"my_x"
    for other in (b"my_y", b"", b"Bearer my_x"):
        with pytest.raises(Unauthenticated):
            find_token({**both, b"x-api-key": other})
    with pytest.raises(Unauthenticated):
        find_token({**both, b"authorization": b"Basic my_x"})


def test_a_secret_is_not_shown() -> None:
    """Neither by repr nor by str."""
    secret = new_secret()
    credential = Credential(new_id(), secret)
    assert repr(secret)[2:-1] not in repr(credential)
    assert "secret" not in repr(credential)
