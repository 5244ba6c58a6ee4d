"""A bundle as one file, there and back, and every way in which it can be wrong."""

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.bundle.archive import export_bundle, import_bundle
from modelyard.bundle.bundle import Bundle
from modelyard.bundle.draft import PREFIX
from modelyard.core.errors import DamagedBundle, NotFound
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
    """Import the bytes, which must fail and put nothing; the field that is blamed."""
    file = folder / "damaged.tar"
    file.write_bytes(data)
    store = MemoryBlobStore()
    with pytest.raises(DamagedBundle) as caught:
        import_bundle(file, store)
    assert list(store.digests()) == []
    assert caught.value.field is not None
    assert repr(caught.value.field) in repr(caught.value.message) or caught.value.field in str(
        caught.value.message
    )
    return caught.value.field


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
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        starts = [(member.offset, member.offset_data, member.size) for member in tar.getmembers()]
    positions = {len(archive) - n for n in range(1, 1025)}
    for offset, data, size in starts:
        positions |= set(range(offset, data))
        positions |= set(range(data + size, data + size + -size % 512))
    for position in sorted(positions):
        damaged = bytearray(archive)
        damaged[position] ^= 1 << position % 8
        _refused(bytes(damaged), tmp_path)


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
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        places = [member.offset for member in tar.getmembers()]
    for place in [*places, len(archive) - 1024]:
        _refused(archive[:place] + header + archive[place:], tmp_path)


def test_members_in_another_order_or_left_out_are_refused(archive: bytes, tmp_path: Path) -> None:
    """Each member stands in its place, once."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        starts = [member.offset for member in tar.getmembers()]
    ends = [*starts[1:], len(archive) - 1024]
    pieces = [archive[start:end] for start, end in zip(starts, ends, strict=True)]
    for n in range(len(pieces)):
        without = pieces[:n] + pieces[n + 1 :]
        _refused(b"".join(without) + bytes(1024), tmp_path)
        _refused(b"".join([*without, pieces[n]][:: 1 if n + 1 < len(pieces) else -1]), tmp_path)


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
