"""What every blob store must do. Subclass it in a test, and give it a `store`."""

import hashlib
import io
import threading
from abc import ABC, abstractmethod
from pathlib import Path

import pytest

from modelyard.core.errors import Conflict, NotFound
from modelyard.core.ports import BlobStore

_DATA = b"some bytes"
_DIGEST = hashlib.sha256(_DATA).hexdigest()
_ABSENT = hashlib.sha256(b"never put").hexdigest()


def _content(store: BlobStore, digest: str) -> bytes:
    with store.file(digest).open("rb") as file:
        return file.read()


class BlobStoreSuite(ABC):
    """The port's conformance suite."""

    @pytest.fixture
    @abstractmethod
    def store(self, tmp_path: Path) -> BlobStore:
        """An empty store."""

    def test_bytes_come_back_under_their_sha256(self, store: BlobStore) -> None:
        """What was put is found under its digest, byte for byte."""
        assert store.put(_DATA) == _DIGEST
        assert store.has(_DIGEST)
        assert _content(store, _DIGEST) == _DATA

    def test_a_file_and_a_stream_are_stored_like_bytes(
        self, store: BlobStore, tmp_path: Path
    ) -> None:
        """A path and an open file give the same blob as their bytes."""
        file = tmp_path / "source.bin"
        file.write_bytes(_DATA)
        assert store.put(file) == _DIGEST
        assert store.put(io.BytesIO(_DATA)) == _DIGEST
        assert list(store.digests()) == [_DIGEST]
        assert file.read_bytes() == _DATA

    def test_an_empty_blob_is_a_blob(self, store: BlobStore) -> None:
        """No bytes have a digest too."""
        digest = store.put(b"")
        assert digest == hashlib.sha256(b"").hexdigest()
        assert _content(store, digest) == b""

    def test_a_blob_larger_than_a_chunk_survives(self, store: BlobStore) -> None:
        """Bytes that are read in several pieces come back in order."""
        data = bytes(range(256)) * (3 * 4096) + b"end"
        assert _content(store, store.put(io.BytesIO(data))) == data

    def test_putting_twice_keeps_one_blob(self, store: BlobStore) -> None:
        """Put is idempotent."""
        store.put(_DATA)
        store.put(_DATA)
        assert list(store.digests()) == [_DIGEST]

    def test_a_blob_put_from_its_own_file_stays(self, store: BlobStore) -> None:
        """A store can be given its own file, as after an import."""
        store.put(_DATA)
        assert store.put(store.file(_DIGEST)) == _DIGEST
        assert _content(store, _DIGEST) == _DATA

    def test_a_file_can_be_read_again_and_again(self, store: BlobStore) -> None:
        """In pieces or as a whole, by several at once, and always from its beginning."""
        store.put(_DATA)
        file = store.file(_DIGEST)
        with file.open("rb") as first, file.open("rb") as second:
            assert first.read(3) == _DATA[:3]
            assert second.read() == _DATA
            assert first.read() == _DATA[3:]
            assert first.read() == b""

    @pytest.mark.parametrize("digest", [_ABSENT, "", "../../etc/passwd", _DIGEST.upper(), "a" * 63])
    def test_what_is_not_here_is_not_found(self, store: BlobStore, digest: str) -> None:
        """An absent digest, and anything that is no digest, raises `NotFound` and never a file."""
        store.put(_DATA)
        with pytest.raises(NotFound):
            store.file(digest)

    def test_delete_removes_and_forgives(self, store: BlobStore) -> None:
        """Deleting twice is no error."""
        store.put(_DATA)
        store.delete(_DIGEST)
        store.delete(_DIGEST)
        assert not store.has(_DIGEST)
        with pytest.raises(NotFound):
            store.file(_DIGEST)

    def test_an_empty_store_lists_nothing(self, store: BlobStore) -> None:
        """Looking into a new store needs no folder and finds nothing."""
        assert list(store.digests()) == []
        assert list(store.leftovers()) == []
        assert list(store.collect(set)) == []

    def test_collect_takes_only_what_nobody_refers_to(self, store: BlobStore) -> None:
        """The referenced blob stays, the other one goes and is named."""
        kept, stray = store.put(b"kept"), store.put(b"stray")
        assert list(store.collect(lambda: {kept})) == [stray]
        assert list(store.digests()) == [kept]

    def test_collect_refuses_while_somebody_holds(self, store: BlobStore) -> None:
        """What is put under a hold is not collected before the hold ends."""
        with store.hold():
            digest = store.put(_DATA)
            with pytest.raises(Conflict) as caught:
                store.collect(set)
            assert caught.value.code == "publish_in_flight"
        assert store.has(digest)
        assert list(store.collect(set)) == [digest]

    def test_many_may_hold_at_once(self, store: BlobStore) -> None:
        """Publishers do not wait for each other, nor for themselves."""
        entered = threading.Barrier(3, timeout=10)

        def hold() -> None:
            with store.hold(), store.hold():
                entered.wait()

        threads = [threading.Thread(target=hold) for _ in range(2)]
        for thread in threads:
            thread.start()
        entered.wait()
        for thread in threads:
            thread.join()
        assert list(store.collect(set)) == []

    def test_many_may_put_the_same_blob_at_once(self, store: BlobStore) -> None:
        """Racing puts of one blob leave one whole blob."""
        data = _DATA * 100_000
        threads = [threading.Thread(target=store.put, args=(data,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (digest,) = store.digests()
        assert _content(store, digest) == data
        assert list(store.leftovers()) == []
