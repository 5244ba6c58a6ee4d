"""Key-encryption keys: where they come from, and what they wrap.

A source gives one key or several, white space between them: the first encrypts, all decrypt. A key
is 32 random bytes in base64 (`openssl rand -base64 32`) or hex. Its id is a digest and no secret.
"""

import base64
import binascii
import hashlib
import os
import re
import secrets
import shlex
import stat
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap,
    aes_key_wrap,
)

from modelyard.bundle.draft import Draft
from modelyard.core.errors import Invalid, ModelyardError, NotFound, Unavailable

KEY_BYTES: Final = 32
_ID_BYTES: Final = 8
_HEX: Final = re.compile(r"[0-9a-fA-F]{64}")
_COMMAND_S: Final = 20.0
_MOST_CHARACTERS: Final = 64 * 1024
_AGAIN_S: Final = 1.0
"""How soon a source may be asked again for a key that it did not have."""


@dataclass(frozen=True, slots=True)
class WrappingKey:
    """One key-encryption key; never shown."""

    id: str
    secret: bytes = field(repr=False)

    @staticmethod
    def of(secret: bytes) -> "WrappingKey":
        """The key of these bytes, with its id."""
        return WrappingKey(key_id(secret), secret)

    def wrap(self, data: bytes) -> bytes:
        """Data in multiples of 8 bytes, encrypted with a check of their own (RFC 3394)."""
        return aes_key_wrap(self.secret, data)

    def unwrap(self, wrapped: bytes) -> bytes | None:
        """What `wrap` was given; None where these bytes are not what it gave."""
        try:
            return aes_key_unwrap(self.secret, wrapped)
        except InvalidUnwrap:
            return None


class Keyring:
    """The wrapping keys of a source: `file:PATH`, `env:NAME`, `command:…`, or "" for none.

    The source is asked when a key is first needed, and again when one is needed that it did not
    give. Safe to use from many threads. `str` of it is its source, which is no secret.
    """

    def __init__(self, source: str = "", *, base: Path | None = None) -> None:
        kind, _, rest = source.partition(":")
        if source and (kind not in _READERS or not rest):
            # Not quoted: somebody may have written the key itself here.
            raise Invalid(
                "bad_encryption_key",
                "'encryption_key' says where the key is: file:PATH, env:NAME or command:PROGRAM …",
                field="encryption_key",
            )
        if kind == "file":
            path = Path(rest).expanduser()
            source = f"file:{path if base is None else base / path}"
        self.source: Final = source
        self._lock = threading.Lock()
        self._keys: tuple[WrappingKey, ...] = ()
        self._asked_s = float("-inf")

    def __bool__(self) -> bool:
        return bool(self.source)

    def __repr__(self) -> str:
        return f"Keyring({self.source!r})"

    def current(self) -> WrappingKey:
        """The key that encrypts; raises `Unavailable` where the source has none."""
        return self.all()[0]

    def all(self) -> tuple[WrappingKey, ...]:
        """Every key, the one that encrypts first."""
        with self._lock:
            return self._keys or self._ask()

    def find(self, wanted: str) -> WrappingKey | None:
        """The key of an id; None where the source does not give it."""
        with self._lock:
            found = self._look(wanted)
            if found is None and self and time.monotonic() >= self._asked_s + _AGAIN_S:
                self._ask()
                found = self._look(wanted)
            return found

    def refresh(self) -> None:
        """Ask the source anew."""
        with self._lock:
            self._ask()

    def _look(self, wanted: str) -> WrappingKey | None:
        return next((key for key in self._keys if key.id == wanted), None)

    def _ask(self) -> tuple[WrappingKey, ...]:
        if not self.source:
            raise Unavailable(
                "no_encryption_key",
                "no key to encrypt with: set 'encryption_key'",
                field="encryption_key",
            )
        kind, _, rest = self.source.partition(":")
        self._keys = parse_keys(_READERS[kind](rest))
        self._asked_s = time.monotonic()
        return self._keys


def key_id(secret: bytes) -> str:
    """By what a key is known: 16 hex digits, from which nobody finds the key."""
    return hashlib.sha256(b"modelyard key id\0" + secret).digest()[:_ID_BYTES].hex()


def make_key() -> str:
    """A new key as text."""
    return base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()


def add_key(file: Path) -> WrappingKey:
    """A new key, put before those in a file, which is made for this user alone where it is not.

    The file is replaced whole; raises `Unavailable` for one that others may read or holds no keys.
    """
    present = ""
    if file.exists():
        present = _from_file(str(file))
        parse_keys(present)
    if not file.parent.is_dir():
        raise NotFound("no_such_folder", f"there is no folder {file.parent}; make it first")
    text = make_key()
    with Draft(file.parent) as draft:
        # Before anything is in it.
        os.fchmod(draft.file.fileno(), 0o600)
        draft.file.write(f"{text}\n{present}".encode())
        draft.publish(file)
    return parse_keys(text)[0]


def parse_keys(text: str) -> tuple[WrappingKey, ...]:
    """The keys in a text; raises `Unavailable`, without a word of the text."""
    words = text.split()
    if not words:
        raise _bad_source("gives no key")
    return tuple(WrappingKey.of(_parse_key(word)) for word in words)


def _parse_key(word: str) -> bytes:
    try:
        if _HEX.fullmatch(word):
            return bytes.fromhex(word)
        key = base64.b64decode(word, validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise _bad_source("gives something that is no key: 32 random bytes in base64 or hex")
    return key


def _from_file(name: str) -> str:
    try:
        with Path(name).open("rb") as file:
            found = os.fstat(file.fileno())
            if found.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise _bad_source(f"is {name}, which others may read: chmod 600 {name}")
            return _decode(file.read(_MOST_CHARACTERS))
    except OSError as error:
        raise _bad_source(f"is {name}, which cannot be read ({error.strerror})") from None


def _from_environment(name: str) -> str:
    text = os.environ.get(name)
    if text is None:
        raise _bad_source(f"is the environment variable {name}, which is not set")
    return text


def _from_command(line: str) -> str:
    """Run without a shell. What it prints is never shown: it may be the key."""
    words = shlex.split(line)
    try:
        done = subprocess.run(  # noqa: S603 - the operator's own command
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _bad_source(
            f"is the command '{words[0]}', which did not end within {_COMMAND_S:g} s"
        ) from None
    except OSError as error:
        raise _bad_source(
            f"is the command '{words[0]}', which cannot be run ({error.strerror})"
        ) from None
    if done.returncode:
        raise _bad_source(f"is the command '{words[0]}', which ended with {done.returncode}")
    return _decode(done.stdout[:_MOST_CHARACTERS])


def _decode(data: bytes) -> str:
    return data.decode("ascii", "replace")


def _bad_source(what: str) -> ModelyardError:
    return Unavailable("no_encryption_key", f"'encryption_key' {what}", field="encryption_key")


_READERS: Final = {"file": _from_file, "env": _from_environment, "command": _from_command}
