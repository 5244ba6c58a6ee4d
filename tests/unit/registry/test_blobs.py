"""The local blob store: what the port's suite does not ask."""

import errno
import io
from pathlib import Path

import pytest

from modelyard.bundle.draft import PREFIX
from modelyard.registry.blobs import LocalBlobStore


def test_blobs_lie_as_in_an_oci_layout(tmp_path: Path) -> None:
    """`blobs/sha256/<hex>`, read-only."""
    digest = LocalBlobStore(tmp_path).put(b"x")
    path = tmp_path / "blobs" / "sha256" / digest
    assert path.read_bytes() == b"x"
    assert path.stat().st_mode & 0o777 == 0o444


def test_looking_makes_no_folder(tmp_path: Path) -> None:
    """A store that is only read leaves no trace."""
    store = LocalBlobStore(tmp_path / "home")
    assert list(store.digests()) == []
    assert not store.has("a" * 64)
    assert not (tmp_path / "home").exists()


def test_putting_again_heals_a_damaged_blob(tmp_path: Path) -> None:
    """A blob whose bytes went bad is replaced by a good copy."""
    store = LocalBlobStore(tmp_path)
    path = store.file(store.put(b"good"))
    path.chmod(0o644)
    path.write_bytes(b"evil")
    store.put(b"good")
    assert path.read_bytes() == b"good"


def test_its_own_damaged_blob_is_not_believed(tmp_path: Path) -> None:
    """Put from the store's own path tells the digest of the bytes, not of the name."""
    store = LocalBlobStore(tmp_path)
    digest = store.put(b"good")
    path = store.file(digest)
    path.chmod(0o644)
    path.write_bytes(b"evil")
    assert store.put(path) != digest


def test_half_written_files_are_leftovers_and_no_blobs(tmp_path: Path) -> None:
    """They are listed apart, and collected."""
    store = LocalBlobStore(tmp_path)
    digest = store.put(b"x")
    draft = tmp_path / "blobs" / "sha256" / f"{PREFIX}0123"
    draft.write_bytes(b"half")
    assert list(store.digests()) == [digest]
    assert list(store.leftovers()) == [draft.name]
    assert list(store.collect(lambda: {digest})) == [draft.name]
    assert not draft.exists()


def test_a_source_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """A stream that breaks in the middle is the caller's error, and no draft stays."""

    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(errno.EIO, "broken")

    store = LocalBlobStore(tmp_path)
    with pytest.raises(OSError, match="broken"):
        store.put(Broken())
    assert list(store.leftovers()) == []
    assert list(store.digests()) == []
