"""Every blob store keeps the port's promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.bundle.keyring import Keyring, make_key
from modelyard.core.ports import BlobStore
from modelyard.registry.blobs import LocalBlobStore
from modelyard.testing.blob_store import BlobStoreSuite
from modelyard.testing.memory import MemoryBlobStore


class TestLocalBlobStore(BlobStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> BlobStore:
        return LocalBlobStore(tmp_path / "home", patience_s=0.05)


class TestEncryptedBlobStore(BlobStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
        monkeypatch.setenv("STORE_KEY", make_key())
        return LocalBlobStore(tmp_path / "home", keys=Keyring("env:STORE_KEY"), patience_s=0.05)


class TestMemoryBlobStore(BlobStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[BlobStore]:
        store = MemoryBlobStore()
        yield store
        store.close()
