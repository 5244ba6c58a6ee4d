"""Where wrapping keys come from, and what is said when they do not."""

import base64
import logging
import shlex
import sys
from pathlib import Path

import pytest

from modelyard.bundle.keyring import Keyring, WrappingKey, key_id, make_key, parse_keys
from modelyard.core.errors import Invalid, Unavailable

_KEY = make_key()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_text(f"{_KEY}\n")
    path.chmod(0o600)
    return path


def _script(tmp_path: Path, code: str) -> str:
    path = tmp_path / "give.py"
    path.write_text(code)
    return f"command:{shlex.quote(sys.executable)} {shlex.quote(str(path))}"


def test_a_key_comes_from_a_file_the_environment_or_a_command(
    key_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same key, whichever way."""
    monkeypatch.setenv("THE_KEY", _KEY)
    sources = (f"file:{key_file}", "env:THE_KEY", _script(tmp_path, f"print({_KEY!r})"))
    assert len({Keyring(source).current() for source in sources}) == 1


def test_hex_and_base64_are_the_same_key() -> None:
    """Both spellings that key tools print."""
    (one,) = parse_keys(_KEY)
    (other,) = parse_keys(base64.b64decode(_KEY).hex())
    assert one == other
    assert one.id == key_id(base64.b64decode(_KEY))


def test_the_first_key_encrypts_and_all_decrypt(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new key is put before the old one; both are found by their ids."""
    old, new = WrappingKey.of(base64.b64decode(_KEY)), make_key()
    key_file.write_text(f"{new}\n{_KEY}\n")
    ring = Keyring(f"file:{key_file}")
    assert ring.current().id == key_id(base64.b64decode(new))
    assert ring.find(old.id) == old
    assert ring.find("0" * 16) is None


def test_a_key_that_was_added_later_is_found(
    key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running server reads what another process has encrypted with a newer key."""
    monkeypatch.setattr("modelyard.bundle.keyring._AGAIN_S", 0.0)
    ring = Keyring(f"file:{key_file}")
    ring.current()
    new = make_key()
    key_file.write_text(f"{new}\n{_KEY}\n")
    assert ring.find(key_id(base64.b64decode(new))) is not None


def test_a_relative_file_lies_in_the_home(key_file: Path) -> None:
    """Wherever a command is run from, it means the same file."""
    ring = Keyring(f"file:{key_file.name}", base=key_file.parent)
    assert ring.source == f"file:{key_file}"
    assert ring.current().id


def test_a_file_that_others_may_read_is_refused(key_file: Path) -> None:
    """As ssh does."""
    key_file.chmod(0o640)
    with pytest.raises(Unavailable, match="chmod 600"):
        Keyring(f"file:{key_file}").current()


@pytest.mark.parametrize("source", ["env:NOT_SET_ANYWHERE", "file:/no/such/file", "command:/no"])
def test_a_source_that_gives_nothing_says_which_it_is(source: str) -> None:
    """What was asked is named, so that it can be mended."""
    with pytest.raises(Unavailable) as caught:
        Keyring(source).current()
    assert caught.value.code == "no_encryption_key"
    assert source.partition(":")[2] in caught.value.message


def test_a_command_that_does_not_end_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key service that hangs does not hang a server for ever."""
    monkeypatch.setattr("modelyard.bundle.keyring._COMMAND_S", 0.3)
    with pytest.raises(Unavailable, match="did not end"):
        Keyring(_script(tmp_path, "import time; time.sleep(60)")).current()


@pytest.mark.parametrize(
    "code",
    [
        "print('SECRET-OUTPUT')",
        "import sys; print('SECRET-OUTPUT'); print('SECRET-OUTPUT', file=sys.stderr); sys.exit(3)",
    ],
)
def test_what_a_command_prints_is_never_told(
    code: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither in the error nor in the log nor on the terminal: it may be the key."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises((Invalid, Unavailable)) as caught:
        Keyring(_script(tmp_path, code)).current()
    told = str(caught.value) + caplog.text + "".join(capfd.readouterr())
    assert "SECRET-OUTPUT" not in told


def test_no_shell_reads_the_command(tmp_path: Path) -> None:
    """`;` and `$()` are plain characters."""
    mark = tmp_path / "mark"
    with pytest.raises(Unavailable):
        Keyring(f"command:true ; touch {mark}").current()
    with pytest.raises(Unavailable):
        Keyring(f"command:true $(touch {mark})").current()
    assert not mark.exists()


@pytest.mark.parametrize(
    "source", [_KEY, "vault:x", "file:", "env"], ids=["a key", "vault", "file", "env"]
)
def test_a_setting_that_says_no_place_is_refused_without_being_repeated(source: str) -> None:
    """Whoever writes the key itself there does not read it in an error."""
    with pytest.raises(Invalid) as caught:
        Keyring(source)
    assert caught.value.field == "encryption_key"
    assert _KEY not in str(caught.value)


@pytest.mark.parametrize("text", ["", "short", "=" * 44, "A" * 43, "zz" * 32])
def test_what_is_no_key_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only 256 bits are a key."""
    monkeypatch.setenv("THE_KEY", text)
    with pytest.raises(Unavailable) as caught:
        Keyring("env:THE_KEY").current()
    assert not text or text not in caught.value.message


def test_a_key_is_never_shown() -> None:
    """Nor by accident, in a log of values."""
    (key,) = parse_keys(_KEY)
    secret = base64.b64decode(_KEY)
    assert repr(secret) not in repr(key)
    assert secret.hex() not in repr(key)


def test_without_a_source_there_is_no_key() -> None:
    """An empty setting is off, and asking for a key then says which setting is missing."""
    assert not Keyring()
    with pytest.raises(Unavailable, match="encryption_key"):
        Keyring().current()
