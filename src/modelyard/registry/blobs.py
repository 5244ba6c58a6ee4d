"""Blobs in a local folder, laid out as in an OCI image layout: `blobs/sha256/<hex>`.

Encrypted ones are `blobs/sealed/<hex>`, by the sha256 of their content.
"""

import contextlib
import fcntl
import hashlib
import io
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final, cast

from modelyard.bundle.draft import PREFIX, Draft, full_disk_named, sync_folder
from modelyard.bundle.encryption import SealedFile, seal
from modelyard.bundle.keyring import Keyring
from modelyard.core.errors import Conflict, DamagedBundle, NotFound
from modelyard.core.ports import File

_CHUNK_BYTES: Final = 1024 * 1024
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_READ_ONLY: Final = 0o444


@dataclass(frozen=True, slots=True, kw_only=True)
class Encryption:
    """How many blobs are encrypted and how many are not; of the former, how many each wrapping key
    opens, by its id. One that a rotation was cut off at counts for both of its keys."""

    sealed: int
    plain: int
    wrapped_by: dict[str, int]


class LocalBlobStore:
    """A blob store in a folder that every process of this machine may share.

    Who puts holds a shared `flock` on one file; who collects holds it alone. The kernel lets go of
    a lock when its process dies, so a killed publish never blocks a repair, and a running one
    always does, however long it takes.

    With `keys` what is put is encrypted, and lies in a folder beside the plain one. Both are read.
    """

    def __init__(self, root: Path, *, keys: Keyring | None = None, patience_s: float = 5.0) -> None:
        self._root = root
        self._keys = keys or Keyring()
        self._plain = root / "blobs" / "sha256"
        self._sealed = root / "blobs" / "sealed"
        self._lock_path = root / "blobs" / ".lock"
        self._patience_s = patience_s

    def put(self, source: File | bytes | BinaryIO) -> str:
        """Store bytes durably and return their sha256; see `BlobStore`."""
        if isinstance(source, bytes):
            return self._put_stream(io.BytesIO(source))
        if hasattr(source, "read"):
            return self._put_stream(cast(BinaryIO, source))
        with source.open("rb") as file:
            if self._is_own(source):
                # As after an import: only the digest can be in question.
                return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            return self._put_stream(file)

    def _is_own(self, source: File) -> bool:
        """Whether it is what a put would make of it."""
        if isinstance(source, SealedFile):
            return source.path.parent == self._sealed
        return not self._keys and isinstance(source, Path) and source.parent == self._plain

    def _put_stream(self, stream: BinaryIO) -> str:
        folder = self._sealed if self._keys else self._plain
        self._make_folder(folder)
        with Draft(folder) as draft:
            if self._keys:
                name = seal(stream, draft.file, self._keys.current())
            else:
                name = _copy(stream, draft.file)
            # Replacing a blob with the same bytes is invisible, and heals a damaged one.
            draft.publish(folder / name, _READ_ONLY)
        if self._keys:
            (self._plain / name).unlink(missing_ok=True)
        return name

    def has(self, digest: str) -> bool:
        """Whether a blob is here."""
        name = _checked(digest)
        return (self._sealed / name).is_file() or (self._plain / name).is_file()

    def file(self, digest: str) -> File:
        """The blob's file, not verified; raises `NotFound`."""
        name = _checked(digest)
        sealed, plain = self._sealed / name, self._plain / name
        # Without a key a plain one comes first: it can be read.
        if sealed.is_file() and (self._keys or not plain.is_file()):
            return self._sealed_file(name)
        if not plain.is_file():
            raise NotFound("no_such_blob", f"there is no blob sha256:{digest} in {self._root}")
        return plain

    def _sealed_file(self, name: str) -> SealedFile:
        return SealedFile(self._sealed / name, self._keys)

    def delete(self, digest: str) -> None:
        """Remove a blob; one that is not here is no error."""
        for folder in (self._sealed, self._plain):
            (folder / _checked(digest)).unlink(missing_ok=True)

    def digests(self) -> Iterator[str]:
        """Every blob here, in no order."""
        return iter({path.name for path in self._paths() if _DIGEST.fullmatch(path.name)})

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep collectors out; waits while one is at work."""
        with self._lock_file() as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            yield

    def leftovers(self) -> Sequence[str]:
        """The drafts in the folders."""
        return sorted(path.name for path in self._paths() if path.name.startswith(PREFIX))

    def collect(self, referenced: Callable[[], Set[str]]) -> Sequence[str]:
        """Delete leftovers and unreferenced blobs; see `BlobStore`."""
        if not self._lock_path.parent.is_dir():
            return []
        with self._lock_file() as descriptor:
            self._lock_alone(descriptor)
            kept = referenced()
            doomed = [*self.leftovers(), *sorted(set(self.digests()) - kept)]
            for name in doomed:
                for folder in (self._sealed, self._plain):
                    (folder / name).unlink(missing_ok=True)
            for folder in (self._sealed, self._plain):
                if folder.is_dir():
                    sync_folder(folder)
        return doomed

    def survey(self) -> Encryption:
        """Which blobs are encrypted, and with which keys."""
        wrapped = Counter(
            key for file in self._sealed_files() for key in _forgiving(file.wrapped_by)
        )
        return Encryption(
            sealed=sum(1 for _ in self._sealed_files()),
            plain=sum(1 for _ in _blobs(self._plain)),
            wrapped_by=dict(wrapped),
        )

    def encrypt(self) -> Iterator[str]:
        """Encrypt the blobs that are not, one after the other, and give the names of those done.

        Each is whole, plain or encrypted, whenever this ends; begun again, it goes on. Raises
        `DamagedBundle` for one whose bytes are not those of its name, which stays as it is.
        """
        self._make_folder(self._sealed)
        with self.hold():
            for path in sorted(_blobs(self._plain)):
                with path.open("rb") as stream, Draft(self._sealed) as draft:
                    if seal(stream, draft.file, self._keys.current()) != path.name:
                        raise DamagedBundle(
                            "damaged_blob",
                            f"the blob sha256:{path.name} is damaged and was left as it is; "
                            "see 'modelyard doctor'",
                        )
                    draft.publish(self._sealed / path.name, _READ_ONLY)
                # Only now: there was never a moment without it.
                path.unlink()
                yield path.name

    def rewrap(self) -> Iterator[str]:
        """Wrap every data key with the key that encrypts now; the contents stay as they are.

        Gives the names of those that changed. Killed at any moment, every blob can be read with
        the old key or the new one; begun again, it goes on.
        """
        # A key that was added a moment ago is meant.
        self._keys.refresh()
        with self._lock_file() as descriptor:
            # Two at once would wipe each other's keys.
            self._lock_alone(descriptor)
            for file in sorted(self._sealed_files(), key=lambda each: each.path.name):
                with contextlib.suppress(FileNotFoundError):
                    if file.rewrap():
                        yield file.path.name

    def _sealed_files(self) -> Iterator[SealedFile]:
        return (SealedFile(path, self._keys) for path in _blobs(self._sealed))

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
        self._make_folder(self._plain)
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        with full_disk_named():
            folder.mkdir(parents=True, exist_ok=True)
            for each in (folder.parent, self._root, self._root.parent):
                sync_folder(each)

    def _paths(self) -> Iterator[Path]:
        for folder in (self._sealed, self._plain):
            with contextlib.suppress(FileNotFoundError):
                yield from folder.iterdir()


def _blobs(folder: Path) -> Iterator[Path]:
    with contextlib.suppress(FileNotFoundError):
        yield from (path for path in folder.iterdir() if _DIGEST.fullmatch(path.name))


def _forgiving(look: Callable[[], Set[str]]) -> Set[str]:
    """Nothing of a file that a collector has just taken."""
    try:
        return look()
    except FileNotFoundError:
        return frozenset()


def _copy(stream: BinaryIO, target: BinaryIO) -> str:
    digest = hashlib.sha256()
    while chunk := stream.read(_CHUNK_BYTES):
        digest.update(chunk)
        with full_disk_named():
            target.write(chunk)
    return digest.hexdigest()


def _checked(digest: str) -> str:
    if not _DIGEST.fullmatch(digest):
        raise NotFound("no_such_blob", f"'{digest:.80}' is not the sha256 of anything")
    return digest
