"""A bundle as one file, there and back, and every way in which it can be wrong."""

import contextlib
import hashlib
import io
import json
import resource
import tarfile
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.bundle.archive import export_bundle, import_bundle
from modelyard.bundle.bundle import Bundle
from modelyard.bundle.draft import PREFIX
from modelyard.core.errors import DamagedBundle, Exhausted, Invalid, NotFound
from modelyard.core.ports import BlobStore
from modelyard.registry.blobs import LocalBlobStore
from modelyard.testing.bundles import make_bundle
from modelyard.testing.memory import MemoryBlobStore

_FILES = {"notes.md": b"hello", "plots/a.svg": bytes(range(256)) * 5, "plots/b.svg": b""}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "b", model=b"m" * 2000, files=_FILES)


@pytest.fixture(scope="module")
def archive(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    target = tmp_path_factory.mktemp("archive") / "churn.tar"
    export_bundle(bundle, target)
    return target.read_bytes()


@pytest.fixture
def blobs() -> Iterator[MemoryBlobStore]:
    store = MemoryBlobStore()
    yield store
    store.close()


def _refused(data: bytes, folder: Path) -> str:
    """Import the bytes, which must fail and put nothing; the subject that is blamed."""
    file = folder / "damaged.tar"
    file.write_bytes(data)
    return _refused_file(file)


def _refused_file(file: Path) -> str:
    store = MemoryBlobStore()
    with pytest.raises(DamagedBundle) as caught:
        import_bundle(file, store)
    assert list(store.digests()) == []
    assert caught.value.field is not None
    assert caught.value.field in caught.value.message
    return caught.value.field


def _members(archive: bytes) -> list[tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return tar.getmembers()


def test_a_bundle_comes_back(bundle: Bundle, archive: bytes, tmp_path: Path) -> None:
    """Exported and imported, it has the same digest and bytes."""
    file = tmp_path / "churn.tar"
    file.write_bytes(archive)
    again = import_bundle(file, LocalBlobStore(tmp_path / "home"))
    again.verify()
    assert again.digest == bundle.digest
    for path, content in _FILES.items():
        assert again.read(path) == content


def test_the_same_bundle_gives_the_same_bytes(
    bundle: Bundle, archive: bytes, blobs: BlobStore, tmp_path: Path
) -> None:
    """Export of what was imported is the same archive."""
    file = tmp_path / "churn.tar"
    file.write_bytes(archive)
    export_bundle(import_bundle(file, blobs), tmp_path / "again.tar")
    assert (tmp_path / "again.tar").read_bytes() == archive


def test_archives_are_written_as_they_always_were(tmp_path: Path) -> None:
    """Import compares bytes: should this digest change, yesterday's archives would be refused."""
    bundle = make_bundle(tmp_path / "b", files={"notes.md": b"hello"})
    manifest = msgspec.structs.replace(bundle.manifest, created="2026-01-01T00:00:00.000+00:00")
    export_bundle(Bundle(manifest, bundle.files), tmp_path / "churn.tar")
    digest = hashlib.sha256((tmp_path / "churn.tar").read_bytes()).hexdigest()
    assert digest == "c4fe0a87c9a474caea8ef83e0b7e2b01faf5de3cefe3e0a71985591210920d0c"


def test_the_archive_is_an_oci_layout(bundle: Bundle, archive: bytes) -> None:
    """Any tar opens it; index, manifest, config and layers are found by their digests."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        members = {member.name: member for member in tar.getmembers()}
        content = {name: tar.extractfile(name).read() for name in members}  # type: ignore[union-attr]
    assert all(member.isreg() and member.mtime == 0 for member in members.values())
    assert json.loads(content["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    (listed,) = json.loads(content["index.json"])["manifests"]
    manifest = json.loads(content[_member(listed["digest"])])
    assert _member(manifest["config"]["digest"]) in content
    layers = {
        layer["annotations"]["org.cncf.model.filepath"]: content[_member(layer["digest"])]
        for layer in manifest["layers"]
    }
    assert layers.pop("bundle.json") == bundle.manifest.encode()
    assert layers == {path: file.read_bytes() for path, file in bundle.files.items()}


def _member(digest: str) -> str:
    return digest.replace("sha256:", "blobs/sha256/")


def test_a_flipped_bit_in_every_header_and_padding_is_refused(
    archive: bytes, tmp_path: Path
) -> None:
    """Each byte of every tar header, of every padding and of the end counts."""
    positions = set(range(len(archive) - 1024, len(archive)))
    for member in _members(archive):
        end = member.offset_data + member.size
        positions |= {*range(member.offset, member.offset_data), *range(end, end + -end % 512)}
    path = tmp_path / "damaged.tar"
    path.write_bytes(archive)
    with path.open("r+b", buffering=0) as file:
        for position in sorted(positions):
            file.seek(position)
            file.write(bytes([archive[position] ^ 1 << position % 8]))
            _refused_file(path)
            file.seek(position)
            file.write(archive[position : position + 1])


@settings(max_examples=500, deadline=None, database=None)
@given(data=st.data())
def test_a_flipped_bit_anywhere_is_refused(
    archive: bytes, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Content, header or padding: the archive is refused, and something is blamed."""
    position = data.draw(st.integers(0, len(archive) * 8 - 1))
    damaged = bytearray(archive)
    damaged[position // 8] ^= 1 << position % 8
    _refused(bytes(damaged), tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("path", ["bundle.json", "model.onnx", "notes.md", "plots/a.svg"])
def test_the_damaged_file_is_the_one_that_is_named(
    bundle: Bundle, archive: bytes, tmp_path: Path, path: str
) -> None:
    """A bit flipped in a file's content is blamed on that file."""
    content = bundle.manifest.encode() if path == "bundle.json" else bundle.read(path)
    damaged = bytearray(archive)
    damaged[archive.index(content) + len(content) // 2] ^= 1
    assert _refused(bytes(damaged), tmp_path) == path


def test_an_archive_cut_at_any_block_is_refused(archive: bytes, tmp_path: Path) -> None:
    """Nothing shorter than the whole passes, nor a block and a half."""
    for end in range(0, len(archive), 512):
        _refused(archive[:end], tmp_path)
        _refused(archive[: max(0, end - 1)], tmp_path)


@pytest.mark.parametrize("tail", [b"\0", b"x", bytes(512), bytes(10_240)])
def test_trailing_data_is_refused(archive: bytes, tmp_path: Path, tail: bytes) -> None:
    """Not even zeros may follow the end."""
    _refused(archive + tail, tmp_path)


def _info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


@pytest.mark.parametrize(
    "extra",
    [
        _info("../outside"),
        _info("/etc/passwd"),
        _info("blobs/sha256/link", tarfile.SYMTYPE, "/etc/passwd"),
        _info("blobs/sha256/hard", tarfile.LNKTYPE, "oci-layout"),
        _info("device", tarfile.CHRTYPE),
        _info("pipe", tarfile.FIFOTYPE),
        _info("blobs", tarfile.DIRTYPE),
        _info("oci-layout"),
        _info("name" * 40, tarfile.GNUTYPE_LONGNAME),
        _info("pax", tarfile.XHDTYPE),
    ],
    ids=lambda info: info.name[:20],
)
def test_a_member_that_export_would_not_write_is_refused(
    archive: bytes, tmp_path: Path, extra: tarfile.TarInfo
) -> None:
    """Paths that leave, links, devices, folders, duplicates, extensions: at every place."""
    header = extra.tobuf(tarfile.GNU_FORMAT)
    for place in [*(member.offset for member in _members(archive)), len(archive) - 1024]:
        _refused(archive[:place] + header + archive[place:], tmp_path)


def test_members_in_another_order_or_left_out_are_refused(archive: bytes, tmp_path: Path) -> None:
    """Each member stands in its place, once."""
    starts = [member.offset for member in _members(archive)]
    ends = [*starts[1:], len(archive) - 1024]
    pieces = [archive[start:end] for start, end in zip(starts, ends, strict=True)]
    for n, piece in enumerate(pieces):
        without = [*pieces[:n], *pieces[n + 1 :]]
        _refused(b"".join(without) + bytes(1024), tmp_path)
        _refused(b"".join([*pieces, piece]) + bytes(1024), tmp_path)
        moved = [*without, piece] if n + 1 < len(pieces) else [piece, *without]
        _refused(b"".join(moved) + bytes(1024), tmp_path)


@pytest.mark.parametrize(
    ("old", "new"),
    [(b'"path":"notes.md"', b'"path":"../s.md"'), (b'"size":5}', b'"size":-5}')],
    ids=["path", "size"],
)
def test_a_consistent_archive_of_a_hostile_manifest_is_refused(
    bundle: Bundle, archive: bytes, blobs: BlobStore, tmp_path: Path, old: bytes, new: bytes
) -> None:
    """Right digests do not make a path that leaves the bundle, or a negative size, acceptable."""
    data = bundle.manifest.encode().replace(old, new)
    assert data != bundle.manifest.encode()
    info = _info(f"blobs/sha256/{hashlib.sha256(data).hexdigest()}")
    info.size, info.mode = len(data), 0o444
    file = tmp_path / "hostile.tar"
    file.write_bytes(archive[:1024] + info.tobuf(tarfile.GNU_FORMAT) + data)
    with pytest.raises(Invalid):
        import_bundle(file, blobs)
    assert list(blobs.digests()) == []


def test_one_digest_with_two_sizes_is_refused(
    bundle: Bundle, blobs: BlobStore, tmp_path: Path
) -> None:
    """A manifest that contradicts itself is named before its files are looked for."""
    first, second = bundle.manifest.files[:2]
    liar = msgspec.structs.replace(second, sha256=first.sha256)
    manifest = msgspec.structs.replace(bundle.manifest, files=(first, liar))
    manifest = msgspec.structs.replace(
        manifest, serving=msgspec.structs.replace(manifest.serving, path=first.path)
    )
    with pytest.raises(Invalid, match="another size"):
        export_bundle(Bundle(manifest, bundle.files), tmp_path / "liar.tar")


def test_a_size_beyond_reason_is_refused_without_reading_it(archive: bytes, tmp_path: Path) -> None:
    """A manifest of gigabytes is not believed."""
    huge = _info("blobs/sha256/" + "a" * 64)
    huge.size, huge.mode = 2**33 - 1, 0o444
    assert _refused(archive[:1024] + huge.tobuf(tarfile.GNU_FORMAT), tmp_path) == "bundle.json"


def test_what_is_no_archive_at_all_is_refused(tmp_path: Path) -> None:
    """An empty file, and a file of something else."""
    _refused(b"", tmp_path)
    _refused(b"PK\x03\x04" + bytes(5000), tmp_path)


def test_an_archive_that_is_not_there_is_not_found(blobs: BlobStore, tmp_path: Path) -> None:
    """A missing file and a folder."""
    for path in (tmp_path / "none.tar", tmp_path):
        with pytest.raises(NotFound):
            import_bundle(path, blobs)


def test_a_damaged_bundle_is_not_exported(tmp_path: Path) -> None:
    """The file is named, and what was at the target stays."""
    bundle = make_bundle(tmp_path / "b", files={"notes.md": b"hello"})
    target = tmp_path / "churn.tar"
    target.write_bytes(b"precious")
    for content in (b"other", b"hello and more", b"hell"):
        (tmp_path / "b" / "notes.md").write_bytes(content)
        with pytest.raises(DamagedBundle) as caught:
            export_bundle(bundle, target)
        assert caught.value.field == "notes.md"
    (tmp_path / "b" / "notes.md").unlink()
    with pytest.raises(DamagedBundle):
        export_bundle(bundle, target)
    assert target.read_bytes() == b"precious"
    assert not list(tmp_path.glob(f"{PREFIX}*"))


def test_a_target_without_a_folder_is_not_found(bundle: Bundle, tmp_path: Path) -> None:
    """Export makes no folders."""
    with pytest.raises(NotFound, match="make it first"):
        export_bundle(bundle, tmp_path / "none" / "churn.tar")


def test_files_with_the_same_content_are_one_member(tmp_path: Path, blobs: BlobStore) -> None:
    """Two paths, one blob, and both come back."""
    bundle = make_bundle(tmp_path / "b", files={"a.md": b"same", "b.md": b"same"})
    export_bundle(bundle, tmp_path / "churn.tar")
    with tarfile.open(tmp_path / "churn.tar") as tar:
        names = tar.getnames()
    assert len(names) == len(set(names)) == 7
    again = import_bundle(tmp_path / "churn.tar", blobs)
    assert again.read("a.md") == again.read("b.md") == b"same"


def test_a_large_bundle_does_not_sit_in_memory(tmp_path: Path) -> None:
    """48 MiB pass through a few."""
    bundle = make_bundle(tmp_path / "b", model=bytes(48 << 20))
    store = LocalBlobStore(tmp_path / "home")
    tracemalloc.start()
    try:
        export_bundle(bundle, tmp_path / "churn.tar")
        import_bundle(tmp_path / "churn.tar", store)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 8 << 20


def test_a_full_disk_stops_an_export_and_leaves_the_target(bundle: Bundle, tmp_path: Path) -> None:
    """`disk_full` at every size, no draft, and what was there stays."""
    target = tmp_path / "churn.tar"
    target.write_bytes(b"precious")
    for limit_bytes in range(0, 12_000, 1500):
        with _little_space(limit_bytes), pytest.raises(Exhausted) as caught:
            export_bundle(bundle, target)
        assert caught.value.code == "disk_full"
        assert [path.name for path in tmp_path.iterdir()] == ["churn.tar"]
    assert target.read_bytes() == b"precious"


def test_a_full_disk_stops_an_import(archive: bytes, tmp_path: Path) -> None:
    """`disk_full`, no half-written file, and the same import works when there is room."""
    file = tmp_path / "churn.tar"
    file.write_bytes(archive)
    store = LocalBlobStore(tmp_path / "home")
    with _little_space(1000), pytest.raises(Exhausted):
        import_bundle(file, store)
    assert list(store.leftovers()) == []
    import_bundle(file, store).verify()


@contextlib.contextmanager
def _little_space(limit_bytes: int) -> Iterator[None]:
    """Let no file grow past the limit, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
