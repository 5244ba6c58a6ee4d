"""A bundle at hand: its manifest, and a local file for each of its paths."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO, Final

import msgspec

from modelyard.bundle.digest import PREFIX, sha256_bytes
from modelyard.bundle.encryption import SealedFile
from modelyard.bundle.manifest import MANIFEST_PATH, FileEntry, Manifest
from modelyard.core.errors import DamagedBundle, ModelyardError, NotFound
from modelyard.core.ports import BlobStore, File

_PIECE: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Bundle:
    """An immutable package. `files` maps the paths inside the bundle to where their
    bytes are.

    Nothing read through `read` or opened after `verify` can differ from what the digest named.
    `signatures` lie beside it and are no part of it: whether one is good is asked of
    `bundle.signing`.
    """

    manifest: Manifest
    files: Mapping[str, File]
    signatures: tuple[bytes, ...] = ()

    @property
    def digest(self) -> str:
        """`sha256:…`, the name of exactly these bytes."""
        return self.manifest.digest

    @property
    def is_secret(self) -> bool:
        """Whether its files are encrypted, and must never lie on a disk in the clear."""
        return any(isinstance(file, SealedFile) for file in self.files.values())

    def asking_for(self, packages: Sequence[str]) -> "Bundle":
        """The same bundle, served with packages of its own; raises `Invalid` for what is none."""
        serving = msgspec.structs.replace(self.manifest.serving, packages=tuple(packages))
        manifest = msgspec.structs.replace(self.manifest, serving=serving)
        return Bundle(Manifest.decode(manifest.encode()), self.files)

    def entry(self, path: str) -> FileEntry:
        """The manifest's entry for a path; raises `NotFound`."""
        for entry in self.manifest.files:
            if entry.path == path:
                return entry
        raise NotFound("no_such_file", f"the bundle has no file '{path}'", field=path)

    def read(self, path: str) -> bytes:
        """A file's bytes, verified; raises `DamagedBundle` naming the path."""
        entry = self.entry(path)
        with _named(path), self.files[path].open("rb") as file:
            data = file.read()
        if len(data) != entry.size or sha256_bytes(data) != entry.sha256:
            raise _damaged(path)
        return data

    def copy(self, path: str, target: BinaryIO) -> None:
        """Write a file's bytes, verified as they are written; raises `DamagedBundle`."""
        for piece in self._pieces(path):
            target.write(piece)

    def verify(self) -> None:
        """Read every byte and hold it against its digest; raises `DamagedBundle`."""
        for entry in self.manifest.files:
            for _ in self._pieces(entry.path):
                pass

    def _pieces(self, path: str) -> Iterator[bytes]:
        """A file's bytes; raises at their end where they were not those of the digest."""
        entry = self.entry(path)
        digest, size = hashlib.sha256(), 0
        with _named(path), self.files[path].open("rb") as source:
            while size <= entry.size and (piece := source.read(_PIECE)):
                digest.update(piece)
                size += len(piece)
                yield piece
        if size != entry.size or digest.hexdigest() != entry.sha256:
            raise _damaged(path)

    @staticmethod
    def from_store(store: BlobStore, digest: str) -> "Bundle":
        """The bundle of that digest in a blob store, its manifest verified, its files not yet."""
        hexdigest = digest.removeprefix(PREFIX)
        file = store.file(hexdigest)
        with _named(MANIFEST_PATH), file.open("rb") as opened:
            data = opened.read()
        if sha256_bytes(data) != hexdigest:
            raise _damaged(MANIFEST_PATH)
        manifest = Manifest.decode(data)
        files: dict[str, File] = {}
        for entry in manifest.files:
            try:
                files[entry.path] = store.file(entry.sha256)
            except NotFound:
                raise _missing(entry.path) from None
        return Bundle(manifest, files)


@contextlib.contextmanager
def _named(path: str) -> Iterator[None]:
    """Say of which of the bundle's files it is that it cannot be read."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError):
        raise _missing(path) from None
    except DamagedBundle:
        raise _damaged(path) from None


def _damaged(path: str) -> ModelyardError:
    return DamagedBundle(
        "damaged_bundle",
        f"'{path}' is damaged: its bytes are not those that the bundle was published with; "
        "publish it again or import it from a good copy",
        field=path,
    )


def _missing(path: str) -> ModelyardError:
    return DamagedBundle(
        "damaged_bundle",
        f"'{path}' is missing from the bundle; publish it again or import it from a good copy",
        field=path,
    )
