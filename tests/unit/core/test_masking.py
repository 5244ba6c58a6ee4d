"""Keys and tokens where none belong."""

import io
import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import NotFound
from modelyard.core.masking import mask, mask_url
from modelyard.gateway.credentials import Credential, new_id, write_key
from modelyard.wiring.logs import log_to_stderr

TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"


@given(st.binary(min_size=32, max_size=32), st.text(max_size=20), st.text(max_size=20))
def test_no_secret_of_a_key_is_left(secret: bytes, before: str, after: str) -> None:
    """Wherever it stands, whole or cut off; its id stays, by which it can be found."""
    id = new_id()
    key = write_key(Credential(id, secret))
    for end in (len(key), 40, 20):
        masked = mask(f"{before}{key[:end]}{after}")
        assert key[16:end] not in masked
        assert f"my_{id}_…" in masked


def test_no_token_is_left() -> None:
    """Neither a whole one nor one without its signature."""
    for token in (TOKEN, TOKEN.rpartition(".")[0], TOKEN.rpartition(".")[0] + "."):
        masked = mask(f"GET /x?token={token} HTTP/1.1")
        assert "eyJzdWIi" not in masked
        assert "c2lnbmF0dXJl" not in masked
        assert masked.endswith(" HTTP/1.1")


@pytest.mark.parametrize("text", ["", "my_model is my_own", "no eyJ here", "my_abc_def"])
def test_anything_else_stays_as_it_is(text: str) -> None:
    """Names that begin as keys do are no keys."""
    assert mask(text) == text


def test_an_error_never_says_a_key() -> None:
    """Whatever its message was made of."""
    key = write_key(Credential(new_id(), b"s" * 32))
    error = NotFound("unknown_model", f"there is no model '{key}'", field=key)
    assert key[16:] not in f"{error} {error!r} {error.message} {error.field}"


def test_a_log_never_has_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in a line nor in the traceback of what was raised with one."""
    root = logging.getLogger()
    written = io.StringIO()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    monkeypatch.setattr("sys.stderr", written)
    key = write_key(Credential(new_id(), b"s" * 32))
    log_to_stderr("worker 1: ")
    try:
        raise ValueError(f"cannot read {key}")
    except ValueError:
        logging.getLogger("some.library").exception("a request with %s failed", key)
    assert "cannot read my_" in written.getvalue()
    assert key[16:] not in written.getvalue()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:secret@db/x", "postgresql://ann:…@db/x"),
        ("postgresql://ann:se/cr@et@db:5432/x?a=1", "postgresql://ann:…@db:5432/x?a=1"),
        (
            "postgresql://db/x?user=ann&password=secret&a=1",
            "postgresql://db/x?user=ann&password=…&a=1",
        ),
        ("postgresql://ann@db/x", "postgresql://ann@db/x"),
        ("sqlite:////home/a:b@c/registry.db", "sqlite:////home/a:b@c/registry.db"),
        ("", ""),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    """Wherever it stands, and however badly it is written."""
    assert mask_url(url) == shown
