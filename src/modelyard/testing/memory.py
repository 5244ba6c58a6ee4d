"""In-memory twins of the ports.

The registry has none of its own: it is SQL, and SQLite in memory runs the very same statements,
constraints and triggers as a file does, which a second implementation could only imitate.
"""

import contextlib
import hashlib
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import BinaryIO

from modelyard.core.errors import Conflict, NotFound
from modelyard.core.ports import File
from modelyard.registry.registry import Registry


class MemoryBlobStore:
    """A blob store that ends with its process; files appear when they are asked for."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._holders = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def put(self, source: File | bytes | BinaryIO) -> str:
        """Keep the bytes; see `BlobStore`."""
        if isinstance(source, bytes):
            data = source
        elif hasattr(source, "read"):
            data = source.read()
        else:
            with source.open("rb") as file:
                data = file.read()
        digest = hashlib.sha256(data).hexdigest()
        self._blobs[digest] = data
        return digest

    def has(self, digest: str) -> bool:
        """Whether a blob is here."""
        return digest in self._blobs

    def file(self, digest: str) -> Path:
        """A file with the blob's bytes, in a folder that goes with the store."""
        if digest not in self._blobs:
            raise NotFound("no_such_blob", f"there is no blob sha256:{digest}")
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="modelyard-")
            path = Path(self._folder.name, digest)
            if not path.exists():
                path.write_bytes(self._blobs[digest])
                path.chmod(0o444)
        return path

    def delete(self, digest: str) -> None:
        """Forget a blob."""
        self._blobs.pop(digest, None)
        if self._folder is not None:
            Path(self._folder.name, digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """Every blob here."""
        return iter(list(self._blobs))

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep collectors out."""
        with self._lock:
            self._holders += 1
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1

    def leftovers(self) -> Sequence[str]:
        """Nothing is ever half-written here."""
        return ()

    def collect(self, referenced: Callable[[], Set[str]]) -> Sequence[str]:
        """Forget what is not referenced; see `BlobStore`."""
        with self._lock:
            if self._holders:
                raise Conflict("publish_in_flight", "something is being published")
            doomed = sorted(self._blobs.keys() - referenced())
            for digest in doomed:
                del self._blobs[digest]
        return doomed

    def close(self) -> None:
        """Remove the folder of files."""
        if self._folder is not None:
            self._folder.cleanup()


def memory_registry() -> Registry:
    """A registry that ends with its process."""
    return Registry.open("sqlite://", MemoryBlobStore())
