"""Encrypted files: AES-256-GCM in chunks, each file with a data key of its own.

    0      magic, format                       8 bytes
    8      chunk size as a power of two        1 byte
    9      nonce prefix, random                7 bytes
    512    wrapped data key, first place       id of the wrapping key, wrapped key, CRC-32
    4096   wrapped data key, second place
    8192   chunks, each with its 16-byte tag

A chunk's nonce is the prefix, the chunk's number and whether it is the last, and the first 16 bytes
are authenticated with each: a chunk that was changed, moved, taken from another file or left out is
found before a byte of it is given out. With the data key the SHA-256 of the whole content is
wrapped, which is the file's name: whole files cannot be exchanged either.

The wrapped key has two places so that another wrapping key can be put in force without writing the
content again: it is written to the free place first, and only then is the old one wiped. Killed or
cut off anywhere in between, the file can be read with one of the two keys.
"""

import hashlib
import io
import os
import secrets
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from modelyard.bundle.draft import full_disk_named
from modelyard.bundle.keyring import KEY_BYTES, Keyring, WrappingKey
from modelyard.core.errors import DamagedBundle, ModelyardError, Unavailable

_MAGIC: Final = b"MYSEAL\0\1"
_HEAD: Final = struct.Struct(">8sB7s")
_SLOT: Final = struct.Struct(">8s72sI")
_SLOTS: Final = (512, 4096)
_START: Final = 8192
_CHUNK_LOG: Final = 22
_LARGEST_LOG: Final = 26
_TAG_BYTES: Final = 16


def seal(source: BinaryIO, target: BinaryIO, key: WrappingKey) -> str:
    """Write what `source` has, encrypted, to an empty `target`; the SHA-256 of the content.

    Holds one chunk in memory, 4 MiB. Raises `Exhausted` where the disk is full.
    """
    data_key = secrets.token_bytes(KEY_BYTES)
    head = _HEAD.pack(_MAGIC, _CHUNK_LOG, secrets.token_bytes(7))
    cipher, digest = AESGCM(data_key), hashlib.sha256()
    with full_disk_named():
        target.write(bytes(_START))
    for number, (chunk, is_last) in enumerate(_chunks(source, 1 << _CHUNK_LOG)):
        digest.update(chunk)
        with full_disk_named():
            target.write(cipher.encrypt(_nonce(head, number, is_last), chunk, head))
    with full_disk_named():
        target.seek(0)
        target.write(head)
        target.seek(_SLOTS[0])
        target.write(_pack_slot(key, data_key + digest.digest()))
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class SealedFile:
    """An encrypted file, named for the SHA-256 of its content, that is decrypted as it is read."""

    path: Path
    keys: Keyring

    def open(self, mode: Literal["rb"] = "rb") -> BinaryIO:
        """Its content as a stream, of which memory holds one chunk.

        Raises `FileNotFoundError`, `DamagedBundle`, and `Unavailable` without its wrapping key;
        reading it raises `DamagedBundle`.
        """
        file = self.path.open("rb")
        try:
            head = _read_head(file)
            data_key = _unwrap(head, self.path.name, self.keys)[:KEY_BYTES]
            return io.BufferedReader(
                _Content(file, head[: _HEAD.size], data_key, self.path.name), 1 << _CHUNK_LOG
            )
        except BaseException:
            file.close()
            raise

    def wrapped_by(self) -> frozenset[str]:
        """The ids of the wrapping keys that open it: one, or two where a rotation was cut off."""
        with self.path.open("rb") as file:
            return frozenset(found.hex() for _, found, _ in _read_slots(_read_head(file)))

    def rewrap(self) -> bool:
        """Put the first key of the ring in force for it; False where it is already, and alone.

        The content stays as it is. Durable when it returns; raises as `open` does.
        """
        key = self.keys.current()
        with _writable(self.path) as file:
            head = _read_head(file)
            content = _unwrap(head, self.path.name, self.keys)
            used = {offset: found.hex() for offset, found, _ in _read_slots(head)}
            if set(used.values()) == {key.id} and len(used) == 1:
                return False
            offset = next((each for each, name in used.items() if name == key.id), None)
            if offset is None:
                offset = _free_slot(used, self.keys)
                _write_slot(file, offset, _pack_slot(key, content))
            for other in used.keys() - {offset}:
                _write_slot(file, other, bytes(_SLOT.size))
        return True


class _Content(io.RawIOBase):
    """The plaintext, chunk by chunk."""

    def __init__(self, file: BinaryIO, head: bytes, data_key: bytes, name: str) -> None:
        super().__init__()
        self._file = file
        self._head = head
        self._cipher = AESGCM(data_key)
        self._name = name
        self._step = (1 << head[8]) + _TAG_BYTES
        self._left = os.fstat(file.fileno()).st_size - _START
        self._number = 0
        self._pending = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """The next bytes, at most to the end of a chunk."""
        if not self._pending and not self._ended:
            self._pending = memoryview(self._next())
        taken = self._pending[: len(buffer)]
        buffer[: len(taken)] = taken
        self._pending = self._pending[len(taken) :]
        return len(taken)

    def readall(self) -> bytes:
        """All that is left, in memory once: not as pieces that are then joined."""
        whole = io.BytesIO()
        size = self._left - _TAG_BYTES * -(-self._left // self._step) + len(self._pending)
        if size > 0:
            # Room for all of it at once; grown bit by bit it would be copied, twice as large.
            whole.seek(size - 1)
            whole.write(b"\0")
            whole.seek(0)
        whole.write(self._pending)
        self._pending = memoryview(b"")
        while not self._ended:
            whole.write(self._next())
        return whole.getvalue()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
            self._pending = memoryview(b"")
        super().close()

    def _next(self) -> bytes:
        sealed = self._file.read(min(self._step, self._left))
        self._left -= len(sealed)
        self._ended = self._left <= 0 or len(sealed) < self._step
        try:
            chunk = self._cipher.decrypt(
                _nonce(self._head, self._number, self._ended), sealed, self._head
            )
        except (InvalidTag, ValueError):
            raise _damaged(self._name) from None
        self._number += 1
        return chunk


def _chunks(source: BinaryIO, size: int) -> Iterator[tuple[bytes, bool]]:
    """Chunks of just that size, and whether each is the last; at least one."""
    chunk = _read_fully(source, size)
    while True:
        following = _read_fully(source, size) if len(chunk) == size else b""
        yield chunk, not following
        if not following:
            return
        chunk = following


def _read_fully(source: BinaryIO, size: int) -> bytes:
    data = source.read(size)
    if len(data) in (0, size):
        return data
    pieces, missing = [data], size - len(data)
    while missing and (data := source.read(missing)):
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)


def _nonce(head: bytes, number: int, is_last: bool) -> bytes:
    return head[9:16] + number.to_bytes(4) + bytes([is_last])


def _pack_slot(key: WrappingKey, content: bytes) -> bytes:
    name, wrapped = bytes.fromhex(key.id), key.wrap(content)
    return _SLOT.pack(name, wrapped, zlib.crc32(name + wrapped))


def _read_slots(head: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """The places that hold a wrapped key whole: where, by which key, and it."""
    if len(head) < _START:
        return
    for offset in _SLOTS:
        name, wrapped, check = _SLOT.unpack_from(head, offset)
        if check == zlib.crc32(name + wrapped):
            yield offset, name, wrapped


def _read_head(file: BinaryIO) -> bytes:
    """The first bytes, read again where a rotation was just between its two writes."""
    head = file.read(_START)
    if not any(_read_slots(head)):
        file.seek(0)
        head = file.read(_START)
    return head


def _free_slot(used: dict[int, str], keys: Keyring) -> int:
    """A place for a new key; where both are taken, the one that nobody can read any more."""
    free = [each for each in _SLOTS if each not in used]
    lost = [each for each, name in used.items() if keys.find(name) is None]
    return (free or lost or _SLOTS)[-1]


def _unwrap(head: bytes, name: str, keys: Keyring) -> bytes:
    """The data key and the content's digest; raises where they cannot be had."""
    if len(head) < _START or head[:8] != _MAGIC or head[8] > _LARGEST_LOG:
        raise _damaged(name)
    missing = []
    for _, known, wrapped in _read_slots(head):
        key = keys.find(known.hex())
        if key is None:
            missing.append(known.hex())
            continue
        content = key.unwrap(wrapped)
        if content is not None and content[KEY_BYTES:].hex() == name:
            return content
    if missing:
        wanted = f"the blob sha256:{name} is encrypted with the key {' or '.join(missing)}"
        why = "which 'encryption_key' does not give" if keys else "and 'encryption_key' is not set"
        raise Unavailable("encryption_key_missing", f"{wanted}, {why}", field="encryption_key")
    raise _damaged(name)


def _write_slot(file: BinaryIO, offset: int, content: bytes) -> None:
    """Durable before anything else is written."""
    file.seek(offset)
    file.write(content)
    file.flush()
    os.fsync(file.fileno())


def _writable(path: Path) -> BinaryIO:
    """A read-only file of ours, opened to change its wrapped keys."""
    try:
        return path.open("r+b")
    except PermissionError:
        mode = path.stat().st_mode
        path.chmod(mode | 0o200)
        try:
            return path.open("r+b")
        finally:
            path.chmod(mode)


def _damaged(name: str) -> ModelyardError:
    return DamagedBundle(
        "damaged_blob", f"the encrypted blob sha256:{name} is damaged: it was changed or cut off"
    )
