"""Blobs in a local folder, laid out as in an OCI image layout: `blobs/sha256/<hex>`."""

import contextlib
import fcntl
import hashlib
import io
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence, Set
from pathlib import Path
from typing import BinaryIO, Final

from modelyard.bundle.digest import sha256_file
from modelyard.bundle.draft import PREFIX, Draft, full_disk_named, sync_folder
from modelyard.core.errors import Conflict, NotFound

_CHUNK_BYTES: Final = 1024 * 1024
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_READ_ONLY: Final = 0o444


class LocalBlobStore:
    """A blob store in a folder that every process of this machine may share.

    Who puts holds a shared `flock` on one file; who collects holds it alone. The kernel lets go of
    a lock when its process dies, so a killed publish never blocks a repair, and a running one
    always does, however long it takes.
    """

    def __init__(self, root: Path, *, patience_s: float = 5.0) -> None:
        self._root = root
        self._folder = root / "blobs" / "sha256"
        self._lock_path = root / "blobs" / ".lock"
        self._patience_s = patience_s

    def put(self, source: Path | bytes | BinaryIO) -> str:
        """Store bytes durably and return their sha256; see `BlobStore`."""
        if isinstance(source, bytes):
            return self._put_stream(io.BytesIO(source))
        if isinstance(source, Path):
            if source.parent == self._folder:
                # Its own blob, as after an import: only the digest can be in question.
                return sha256_file(source)
            with source.open("rb") as file:
                return self._put_stream(file)
        return self._put_stream(source)

    def _put_stream(self, stream: BinaryIO) -> str:
        self._make_folders()
        digest = hashlib.sha256()
        with Draft(self._folder) as draft:
            while chunk := stream.read(_CHUNK_BYTES):
                digest.update(chunk)
                with full_disk_named():
                    draft.file.write(chunk)
            name = digest.hexdigest()
            # Replacing a blob with the same bytes is invisible, and heals a damaged one.
            draft.publish(self._folder / name, _READ_ONLY)
        return name

    def has(self, digest: str) -> bool:
        """Whether a blob is here."""
        return self._path(digest).is_file()

    def path(self, digest: str) -> Path:
        """The blob's file, not verified; raises `NotFound`."""
        path = self._path(digest)
        if not path.is_file():
            raise NotFound("no_such_blob", f"there is no blob sha256:{digest} in {self._root}")
        return path

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not here is no error."""
        self._path(digest).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """Every blob here, in no order."""
        return (name for name in self._names() if _DIGEST.fullmatch(name))

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep collectors out; waits while one is at work."""
        with self._lock_file() as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield

    def leftovers(self) -> Sequence[str]:
        """The drafts in the folder."""
        return sorted(name for name in self._names() if name.startswith(PREFIX))

    def collect(self, referenced: Callable[[], Set[str]]) -> Sequence[str]:
        """Delete leftovers and unreferenced blobs; see `BlobStore`."""
        if not self._folder.is_dir():
            return []
        with self._lock_file() as descriptor:
            self._lock_alone(descriptor)
            kept = referenced()
            doomed = [*self.leftovers(), *sorted(set(self.digests()) - kept)]
            for name in doomed:
                (self._folder / name).unlink(missing_ok=True)
            sync_folder(self._folder)
        return doomed

    def _lock_alone(self, descriptor: int) -> None:
        # flock cannot wait for a bounded time, and who runs a repair must not hang for an hour.
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Conflict(
                        "publish_in_flight",
                        f"something is being published or imported into {self._root}; "
                        "try again when that has ended",
                    ) from None
                time.sleep(0.02)
            else:
                return

    @contextlib.contextmanager
    def _lock_file(self) -> Iterator[int]:
        self._make_folders()
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _make_folders(self) -> None:
        if self._folder.is_dir():
            return
        with full_disk_named():
            self._folder.mkdir(parents=True, exist_ok=True)
            for folder in (self._folder.parent, self._root, self._root.parent):
                sync_folder(folder)

    def _names(self) -> Sequence[str]:
        try:
            return [path.name for path in self._folder.iterdir()]
        except FileNotFoundError:
            return []

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise NotFound("no_such_blob", f"'{digest:.80}' is not the sha256 of anything")
        return self._folder / digest
