"""Encrypted files: what comes back, what is found, and what a killed rotation leaves."""

import base64
import hashlib
import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.bundle import encryption
from modelyard.bundle.encryption import SealedFile, seal
from modelyard.bundle.keyring import Keyring, key_id, make_key
from modelyard.core.errors import DamagedBundle, ModelyardError, Unavailable

_CHUNK = 1 << 16
_START = 8192
_STEP = _CHUNK + 16


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption, "_CHUNK_LOG", 16)
    monkeypatch.setattr("modelyard.bundle.keyring._AGAIN_S", 0.0)


class Vault:
    """A folder of encrypted files and the environment variable with their keys."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._patch = monkeypatch
        self.texts: list[str] = []
        self.add_key()

    def add_key(self) -> str:
        text = make_key()
        self.use([text, *self.texts])
        return key_id(base64.b64decode(text))

    def use(self, texts: list[str]) -> None:
        self.texts = texts
        self._patch.setenv("VAULT_KEYS", " ".join(texts))
        self.keys = Keyring("env:VAULT_KEYS")

    def put(self, data: bytes) -> SealedFile:
        target = io.BytesIO()
        name = seal(io.BytesIO(data), target, self.keys.current())
        assert name == hashlib.sha256(data).hexdigest()
        path = self.folder / name
        path.write_bytes(target.getvalue())
        return SealedFile(path, self.keys)

    def file(self, path: Path) -> SealedFile:
        return SealedFile(path, self.keys)


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Vault:
    return Vault(tmp_path, monkeypatch)


def _read(file: SealedFile) -> bytes:
    with file.open() as stream:
        return stream.read()


@pytest.mark.parametrize("size", [0, 1, 15, _CHUNK - 1, _CHUNK, _CHUNK + 1, 3 * _CHUNK, 200_001])
def test_what_was_sealed_comes_back(vault: Vault, size: int) -> None:
    """Byte for byte, whatever lies on a chunk's border, as a whole and in odd pieces."""
    data = os.urandom(size)
    file = vault.put(data)
    assert _read(file) == data
    with file.open() as stream:
        assert b"".join(iter(lambda: stream.read(777), b"")) == data
    with file.open() as stream:
        assert stream.read(10) + stream.read() == data


def test_nothing_of_the_content_or_the_keys_is_in_the_file(vault: Vault) -> None:
    """What is written does not hold what was planted, nor the wrapping key."""
    file = vault.put(b"a planted secret " * 5000)
    raw = file.path.read_bytes()
    assert b"planted" not in raw
    assert base64.b64decode(vault.texts[0]) not in raw


def test_equal_content_looks_different_each_time(vault: Vault) -> None:
    """Each file has a data key of its own."""
    first = vault.put(b"same" * 5000).path.read_bytes()
    assert vault.put(b"same" * 5000).path.read_bytes()[_START:] != first[_START:]


def _pieces(file: SealedFile) -> Iterator[bytes]:
    with file.open() as stream:
        yield from iter(lambda: stream.read(1000), b"")


def _cut(raw: bytes) -> Iterator[tuple[str, bytes]]:
    body = [raw[at : at + _STEP] for at in range(_START, len(raw), _STEP)]
    head = raw[:_START]
    yield "the last chunk left out", head + b"".join(body[:-1])
    yield "a chunk in the middle left out", head + body[0] + b"".join(body[2:])
    yield "two chunks exchanged", head + body[1] + body[0] + b"".join(body[2:])
    yield "a chunk twice", head + body[0] + body[0] + b"".join(body[1:])
    yield "cut within a chunk", raw[:-100]
    yield "cut within a tag", raw[:-1]
    yield "cut to its header", head
    yield "cut within its header", raw[:1000]
    yield "empty", b""
    yield "something behind it", raw + b"x" * 40
    yield "another magic", b"X" + raw[1:]


def test_a_file_that_was_cut_or_reordered_is_found(vault: Vault) -> None:
    """Truncated, shortened, reordered, repeated or lengthened: none is read to its end."""
    file = vault.put(os.urandom(3 * _CHUNK + 5))
    raw = file.path.read_bytes()
    for what, changed in _cut(raw):
        file.path.write_bytes(changed)
        with pytest.raises(DamagedBundle):
            pytest.fail(f"{what}: read {len(_read(file))} bytes")


@pytest.mark.parametrize("offset", [3, 8, 9, 12, _START, _START + _CHUNK, _START + _STEP + 7, -1])
def test_a_changed_bit_is_found_before_its_chunk_is_given_out(vault: Vault, offset: int) -> None:
    """In the header, the content or a tag; what came before it was whole."""
    data = os.urandom(2 * _CHUNK)
    file = vault.put(data)
    raw = bytearray(file.path.read_bytes())
    raw[offset] ^= 1
    file.path.write_bytes(raw)
    given: list[bytes] = []
    with pytest.raises(DamagedBundle):
        given.extend(_pieces(file))
    whole_chunks = max(offset % len(raw) - _START, 0) // _STEP
    assert data[: whole_chunks * _CHUNK].startswith(b"".join(given))


def test_a_chunk_of_another_file_is_found(vault: Vault) -> None:
    """Each file has a key of its own, so that no chunk fits elsewhere."""
    one, other = vault.put(os.urandom(2 * _CHUNK)), vault.put(os.urandom(2 * _CHUNK))
    raw, foreign = bytearray(one.path.read_bytes()), other.path.read_bytes()
    raw[_START : _START + _STEP] = foreign[_START : _START + _STEP]
    one.path.write_bytes(raw)
    with pytest.raises(DamagedBundle):
        _read(one)


def test_a_whole_file_under_the_name_of_another_is_found(vault: Vault) -> None:
    """Exchanging two files, header and all, gives nothing to read."""
    one, other = vault.put(b"the good model"), vault.put(b"an older model")
    one.path.write_bytes(other.path.read_bytes())
    with pytest.raises(DamagedBundle), one.open():
        pass


def test_without_its_key_the_error_names_the_key(vault: Vault) -> None:
    """What is missing is said by its id; with no setting at all it says so."""
    file = vault.put(b"data")
    wanted = vault.keys.current().id
    vault.use([make_key()])
    with pytest.raises(Unavailable, match=wanted) as caught:
        _read(vault.file(file.path))
    assert caught.value.code == "encryption_key_missing"
    with pytest.raises(Unavailable, match=f"{wanted}.*not set"):
        _read(SealedFile(file.path, Keyring()))


def test_a_rotation_leaves_the_content_as_it_is(vault: Vault) -> None:
    """Only the wrapped key changes; the old key does not open it any more, the new one does."""
    file = vault.put(b"model" * 50_000)
    before = file.path.read_bytes()
    old = vault.texts
    new = vault.add_key()
    assert vault.file(file.path).rewrap()
    after = file.path.read_bytes()
    assert after[_START:] == before[_START:]
    assert vault.file(file.path).wrapped_by() == {new}
    assert not vault.file(file.path).rewrap()
    vault.use(vault.texts[:1])
    assert _read(vault.file(file.path)) == b"model" * 50_000
    vault.use(old)
    with pytest.raises(Unavailable):
        _read(vault.file(file.path))


def test_many_rotations_find_a_place_each(vault: Vault) -> None:
    """Two places are enough for any number of keys, one after the other."""
    file = vault.put(b"model")
    for _ in range(5):
        vault.add_key()
        assert vault.file(file.path).rewrap()
        vault.use(vault.texts[:1])
        assert _read(vault.file(file.path)) == b"model"


class _CutOffError(Exception):
    pass


def test_a_rotation_cut_off_at_any_byte_leaves_it_readable(
    vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much of each write had reached the disk: one of the two keys opens it, and the
    rotation can be begun again."""
    file = vault.put(b"model" * 1000)
    raw = file.path.read_bytes()
    vault.add_key()
    write = encryption._write_slot
    for writes, part in itertools.product((0, 1), range(0, 85, 7)):
        file.path.write_bytes(raw)
        count = itertools.count()

        def cut(
            target: object,
            offset: int,
            content: bytes,
            count: Iterator[int] = count,
            writes: int = writes,
            part: int = part,
        ) -> None:
            if next(count) == writes:
                write(target, offset, content[:part])  # type: ignore[arg-type]
                raise _CutOffError
            write(target, offset, content)  # type: ignore[arg-type]

        with monkeypatch.context() as patched:
            patched.setattr(encryption, "_write_slot", cut)
            with pytest.raises(_CutOffError):
                vault.file(file.path).rewrap()
        assert _read(vault.file(file.path)) == b"model" * 1000
        vault.file(file.path).rewrap()
        assert vault.file(file.path).wrapped_by() == {vault.keys.current().id}
        assert _read(vault.file(file.path)) == b"model" * 1000


def test_a_file_whose_both_places_are_ruined_is_damaged(vault: Vault) -> None:
    """There is no third copy of its key, and the error says what it is."""
    file = vault.put(b"model")
    raw = bytearray(file.path.read_bytes())
    raw[512:5000] = bytes(5000 - 512)
    file.path.write_bytes(raw)
    with pytest.raises(ModelyardError) as caught:
        _read(file)
    assert caught.value.code == "damaged_blob"
