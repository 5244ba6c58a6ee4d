"""The keys of a home's payloads: masters that wrap the keys in the database, outside of it.

They lie in one file of the home, in the clear for this user alone, or wrapped by the key of
`encryption_key` where that is set. A copy of the database is of no use without that file, and when
something is erased the file gets a new master and forgets the old one: then no copy that was made
before can be decrypted, unless somebody had copied this file too.

Written only by who has the registry's write lock, so that there is one writer.
"""

import base64
import contextlib
import hashlib
import hmac
import os
import secrets
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import msgspec

from modelyard.bundle.draft import Draft
from modelyard.bundle.keyring import KEY_BYTES, Keyring, WrappingKey
from modelyard.core.errors import ModelyardError, Unavailable

FILE_NAME: Final = "payloads.key"
_OURS_ALONE: Final = 0o600


@dataclass(frozen=True, slots=True)
class PayloadRing:
    """The keys, opened. `masters` are the one that wraps, and older ones; `made_s` is its birth."""

    subjects: bytes = field(repr=False)
    masters: tuple[WrappingKey, ...]
    made_s: float

    @property
    def master(self) -> WrappingKey:
        """The one that wraps."""
        return self.masters[0]

    def subject(self, name: str) -> str:
        """The digest that a subject is known by; "" for nobody. Stays for the life of a home."""
        if not name:
            return ""
        return hmac.new(self.subjects, name.encode(), hashlib.sha256).hexdigest()

    def unwrap(self, master: str, wrapped: bytes) -> bytes:
        """The key of some payloads; raises `Unavailable` where its master is gone."""
        found = next((each for each in self.masters if each.id == master), None)
        key = None if found is None else found.unwrap(wrapped)
        if key is None:
            raise Unavailable(
                "payload_key_gone",
                "this payload cannot be decrypted: its key was erased, or lies in the "
                f"'{FILE_NAME}' of another home",
            )
        return key


class _Stored(msgspec.Struct, frozen=True):
    """A key in the file: `by` is the id of the key that wraps it, "" for none."""

    by: str
    key: str


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    made_s: float
    subjects: _Stored
    masters: list[_Stored]


class PayloadKeys:
    """The file of a home, read again when it has changed. May be used from many threads."""

    def __init__(self, home: Path, keys: Keyring) -> None:
        self._path = home / FILE_NAME
        self._keys = keys
        self._read: tuple[tuple[int, int, int], PayloadRing] | None = None

    @property
    def is_there(self) -> bool:
        """Whether anything was ever captured here."""
        return self._path.exists()

    def ring(self) -> PayloadRing:
        """The keys as they are now, made where there are none yet."""
        with contextlib.suppress(FileNotFoundError):
            return self._open()
        ring = PayloadRing(secrets.token_bytes(KEY_BYTES), (_new_master(),), time.time())
        self._write(ring)
        return ring

    def renew(self) -> PayloadRing:
        """With a new master, the old ones behind it; durable when this returns."""
        ring = self.ring()
        renewed = PayloadRing(ring.subjects, (_new_master(), *ring.masters), time.time())
        self._write(renewed)
        return renewed

    def forget(self, unused: frozenset[str]) -> None:
        """Without these masters, never without the one that wraps."""
        ring = self.ring()
        kept = tuple(each for each in ring.masters[1:] if each.id not in unused)
        if len(kept) + 1 < len(ring.masters):
            self._write(PayloadRing(ring.subjects, (ring.master, *kept), ring.made_s))

    def rewrap(self) -> bool:
        """Wrap them with the key that encrypts now; False where there are none to wrap."""
        if not self.is_there:
            return False
        self._write(self.ring())
        return True

    def _open(self) -> PayloadRing:
        with self._path.open("rb") as file:
            found = os.fstat(file.fileno())
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if self._read is not None and self._read[0] == stamp:
                return self._read[1]
            ring = self._decode(file.read())
        self._read = stamp, ring
        return ring

    def _decode(self, data: bytes) -> PayloadRing:
        try:
            stored = msgspec.json.decode(data, type=_File)
            masters = tuple(WrappingKey.of(self._unpack(each)) for each in stored.masters)
            ring = PayloadRing(self._unpack(stored.subjects), masters, stored.made_s)
        except (msgspec.MsgspecError, ValueError):
            raise _damaged(self._path) from None
        if stored.format != 1 or not masters:
            raise _damaged(self._path)
        return ring

    def _write(self, ring: PayloadRing) -> None:
        """Replace the file whole, and overwrite what it was: a master may be gone from it."""
        stored = _File(
            1,
            ring.made_s,
            self._pack(ring.subjects),
            [self._pack(each.secret) for each in ring.masters],
        )
        with contextlib.ExitStack() as stack:
            old = None
            with contextlib.suppress(FileNotFoundError):
                old = stack.enter_context(self._path.open("r+b"))
            draft = stack.enter_context(Draft(self._path.parent))
            os.fchmod(draft.file.fileno(), _OURS_ALONE)
            draft.file.write(msgspec.json.encode(stored))
            draft.publish(self._path)
            if old is not None:
                # As far as a disk does what it is told.
                old.write(bytes(os.fstat(old.fileno()).st_size))
                old.flush()
                os.fsync(old.fileno())
        self._read = None

    def _pack(self, secret: bytes) -> _Stored:
        if not self._keys:
            return _Stored("", base64.b64encode(secret).decode())
        key = self._keys.current()
        return _Stored(key.id, base64.b64encode(key.wrap(secret)).decode())

    def _unpack(self, stored: _Stored) -> bytes:
        data = base64.b64decode(stored.key, validate=True)
        if not stored.by:
            return data
        key = self._keys.find(stored.by)
        if key is None:
            raise Unavailable(
                "encryption_key_missing",
                f"the payloads' keys are encrypted with the key {stored.by}, which "
                "'encryption_key' does not give",
                field="encryption_key",
            )
        secret = key.unwrap(data)
        if secret is None:
            raise _damaged(self._path)
        return secret


def _new_master() -> WrappingKey:
    return WrappingKey.of(secrets.token_bytes(KEY_BYTES))


def _damaged(path: Path) -> ModelyardError:
    return Unavailable(
        "payload_keys_damaged",
        f"{path} is damaged; restore it from a copy, or captured payloads cannot be read",
    )
