"""A bundle as one file: an uncompressed tar that is an OCI image layout.

Every byte of it follows from the bundle and its signatures: names, order, header fields and
padding. So import does not parse what it is given: it reads `bundle.json` and the signatures,
computes the archive that export would have written, and compares. Whatever a tar could hide (links,
devices, paths that leave the folder, duplicates, extensions, trailing data) differs, and is
refused.
"""

import dataclasses
import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.digest import sha256_bytes
from modelyard.bundle.draft import Draft, full_disk_named
from modelyard.bundle.manifest import MANIFEST_PATH, MOST_MANIFEST_BYTES, Manifest
from modelyard.bundle.oci import INDEX_FILE, LAYOUT, LAYOUT_FILE, make_image
from modelyard.core.errors import DamagedBundle, Denied, Invalid, NotFound
from modelyard.core.ports import BlobStore

_BLOCK: Final = tarfile.BLOCKSIZE
_END: Final = bytes(2 * _BLOCK)
_CHUNK_BYTES: Final = 1024 * 1024
MOST_SIGNATURES: Final = 32
_SIGNATURE: Final = "a signature"
# The headers that cannot be foretold, of `bundle.json` and of signatures: name and size as GNU tar
# writes them.
_BLOB_HEADER: Final = re.compile(
    rb"blobs/sha256/([0-9a-f]{64})\0{23}.{24}([0-7]{11})\0.{376}", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class _Member:
    """One file of the archive. `subject` names it to people; `content` is None for a blob."""

    name: str
    subject: str
    size: int
    sha256: str
    content: bytes | None = None

    @property
    def header(self) -> bytes:
        info = tarfile.TarInfo(self.name)
        info.size = self.size
        info.mode = 0o444
        # GNU, as the older ustar ends at 8 GiB a file.
        return info.tobuf(tarfile.GNU_FORMAT)

    @property
    def padding(self) -> bytes:
        return bytes(-self.size % _BLOCK)


def export_bundle(bundle: Bundle, target: Path) -> None:
    """Write a bundle to one file, replacing it; the same bundle gives the same bytes.

    Every file is verified on its way. Raises `DamagedBundle`, `NotFound` for the folder,
    `Exhausted`; then `target` is as it was.
    """
    if not target.parent.is_dir():
        raise NotFound("no_such_folder", f"there is no folder {target.parent}; make it first")
    with Draft(target.parent) as draft:
        for member in _plan(bundle.manifest, sorted_signatures(bundle.signatures)):
            with full_disk_named():
                draft.file.write(member.header)
            _write_content(bundle, member, draft.file)
            with full_disk_named():
                draft.file.write(member.padding)
        with full_disk_named():
            draft.file.write(_END)
        draft.publish(target)


def import_bundle(source: Path, blobs: BlobStore) -> Bundle:
    """Read a bundle from a file that `export_bundle` wrote, and put its files into a store.

    The whole archive is verified before the first byte is put. Raises `DamagedBundle` whose
    `field` is the file at fault, and `Exhausted`. To publish it too, be in `blobs.hold()`.
    """
    with _open(source) as file:
        manifest, signatures = _Reader(file, source.name).read()
        # The second reading computes the digests again: the file may have changed under us.
        file.seek(0)
        with blobs.hold():
            _put(file, _plan(manifest, signatures), blobs, source.name)
            blobs.put(manifest.encode())
            bundle = Bundle.from_store(blobs, manifest.digest)
            return dataclasses.replace(bundle, signatures=signatures)


def verify_archive(source: Path) -> tuple[Manifest, tuple[bytes, ...]]:
    """Read such a file to its end, put nothing anywhere; its manifest and its signatures.

    Raises `DamagedBundle` whose `field` is the file at fault.
    """
    with _open(source) as file:
        return _Reader(file, source.name).read()


def sorted_signatures(signatures: Iterable[bytes]) -> tuple[bytes, ...]:
    """Signatures in the one order that an archive has them in, each once."""
    return tuple(sorted(set(signatures), key=sha256_bytes))


def _open(source: Path) -> BinaryIO:
    # A pipe would keep whoever opens it waiting, a device would never end.
    if not source.is_file():
        raise NotFound("no_such_file", f"there is no file {source}", field=str(source))
    return source.open("rb")


def _plan(manifest: Manifest, signatures: Sequence[bytes]) -> Iterator[_Member]:
    """Every member in order: `bundle.json` and the signatures so early that whoever reads knows all
    that follows."""
    image = make_image(manifest, signatures)
    yield _named(LAYOUT_FILE, LAYOUT)
    yield _blob(manifest.encode(), MANIFEST_PATH)
    for signature in signatures:
        yield _blob(signature, _SIGNATURE)
    yield _named(INDEX_FILE, image.index)
    yield _blob(image.manifest, "the image manifest")
    yield _blob(image.config, "the image configuration")
    for referrer in image.referrers:
        yield _blob(referrer, "the manifest of a signature")
    yield from _file_members(manifest)


def _file_members(manifest: Manifest) -> Iterator[_Member]:
    """The bundle's files by digest; files with the same content are one."""
    previous: _Member | None = None
    for entry in sorted(manifest.files, key=lambda entry: (entry.sha256, entry.path)):
        member = _Member(f"blobs/sha256/{entry.sha256}", entry.path, entry.size, entry.sha256)
        if previous is None or previous.sha256 != member.sha256:
            yield member
        elif previous.size != member.size:
            raise Invalid(
                "bad_manifest",
                f"'{entry.path}' has the digest of '{previous.subject}' and another size",
                field=entry.path,
            )
        previous = member


def _named(name: str, content: bytes) -> _Member:
    return _Member(name, name, len(content), sha256_bytes(content), content)


def _blob(content: bytes, subject: str) -> _Member:
    digest = sha256_bytes(content)
    return _Member(f"blobs/sha256/{digest}", subject, len(content), digest, content)


def _write_content(bundle: Bundle, member: _Member, target: BinaryIO) -> None:
    if member.content is not None:
        with full_disk_named():
            target.write(member.content)
        return
    try:
        source = bundle.files[member.subject].open("rb")
    except FileNotFoundError:
        raise _damaged(member.subject, "the bundle") from None

    def write(chunk: bytes) -> None:
        with full_disk_named():
            target.write(chunk)

    with source:
        if _digest(source, member.size, write) != member.sha256 or source.read(1):
            raise _damaged(member.subject, "the bundle")


class _Reader:
    """Holds an archive against the one that its own `bundle.json` demands."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name

    def read(self) -> tuple[Manifest, tuple[bytes, ...]]:
        layout = _named(LAYOUT_FILE, LAYOUT)
        self._expect(layout.header + LAYOUT + layout.padding, LAYOUT_FILE)
        manifest = self._read_manifest()
        signatures = tuple(self._read_signatures(manifest))
        plan = list(_plan(manifest, signatures))
        self._check_size(plan)
        self._file.seek(0)
        for member in plan:
            self._expect(member.header, member.subject)
            if _digest(self._file, member.size) != member.sha256:
                raise _damaged(member.subject, self._name)
            self._expect(member.padding, member.subject)
        self._expect(_END, self._name)
        return manifest, signatures

    def _check_size(self, plan: Sequence[_Member]) -> None:
        """Before a file is read: a lie about sizes is seen at once, however large it is."""
        size, end = self._file.seek(0, io.SEEK_END), 0
        for member in plan:
            end += _BLOCK + member.size + len(member.padding)
            if end > size:
                raise _damaged(member.subject, self._name)
        if end + len(_END) != size:
            raise _damaged(self._name, self._name)

    def _read_manifest(self) -> Manifest:
        data = self._read_blob(MANIFEST_PATH, MOST_MANIFEST_BYTES)
        if data is None:
            raise _damaged(MANIFEST_PATH, self._name)
        return Manifest.decode(data)

    def _read_signatures(self, manifest: Manifest) -> Iterator[bytes]:
        """Those that stand behind the manifest, each about this bundle; whose they are is not asked
        here."""
        from modelyard.bundle.signing import MOST_BYTES, SignedStatement

        previous = ""
        for _ in range(MOST_SIGNATURES):
            data = self._read_blob(_SIGNATURE, MOST_BYTES)
            if data is None:
                return
            try:
                SignedStatement.decode(data).check_subject(manifest)
            except (Invalid, Denied):
                raise _damaged(_SIGNATURE, self._name) from None
            if previous >= (previous := sha256_bytes(data)):
                raise _damaged(_SIGNATURE, self._name)
            yield data

    def _read_blob(self, subject: str, most_bytes: int) -> bytes | None:
        """The next member with its padding, if it is a blob of at most that size."""
        match = _BLOB_HEADER.fullmatch(self._file.read(_BLOCK))
        if match is None:
            return None
        size = int(match[2], 8)
        if size > most_bytes:
            raise _damaged(subject, self._name)
        data = self._file.read(size)
        if sha256_bytes(data) != match[1].decode():
            raise _damaged(subject, self._name)
        self._file.seek(-size % _BLOCK, io.SEEK_CUR)
        return data

    def _expect(self, expected: bytes, subject: str) -> None:
        if self._file.read(len(expected)) != expected:
            raise _damaged(subject, self._name)


def _put(file: BinaryIO, plan: Iterator[_Member], blobs: BlobStore, name: str) -> None:
    for member in plan:
        start = file.tell() + _BLOCK
        if member.content is None:
            file.seek(start)
            with io.BufferedReader(_Window(file, member.size), _CHUNK_BYTES) as content:
                stored = blobs.put(content)
            if stored != member.sha256:
                raise _damaged(member.subject, name)
        file.seek(start + member.size + len(member.padding))


class _Window(io.RawIOBase):
    """The next `size` bytes of a file, as a file that ends after them."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        super().__init__()
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


def _digest(file: BinaryIO, size: int, each: Callable[[bytes], object] | None = None) -> str:
    """The sha256 of the next `size` bytes, or of fewer where the file ends before."""
    digest = hashlib.sha256()
    while size and (chunk := file.read(min(size, _CHUNK_BYTES))):
        size -= len(chunk)
        digest.update(chunk)
        if each is not None:
            each(chunk)
    return digest.hexdigest()


def _damaged(subject: str, where: str) -> DamagedBundle:
    return DamagedBundle(
        "damaged_bundle",
        f"'{subject}' is damaged in {where}: its bytes are not those that were exported; "
        "take a good copy",
        field=subject,
    )
