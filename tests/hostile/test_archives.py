"""Archives that mean harm: none is unpacked, all are refused, and the home stays as it was."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from modelyard.bundle.archive import export_bundle
from modelyard.bundle.digest import canonical_json
from modelyard.bundle.manifest import MOST_FILES
from modelyard.testing.bundles import make_bundle
from tests.hostile.actions import import_archive
from tests.hostile.conftest import Attempt, Home

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def _tar(*members: tuple[str, bytes, bytes, str], format: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar of any members: name, type, content, and where a link leads."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w", format=format) as tar:
        for name, kind, content, link in members:
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.size = kind, link, len(content)
            tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


_FILE = tarfile.REGTYPE
_TARS = {
    "traversal": (("../../outside.txt", _FILE, b"mine", ""),),
    "absolute": (("/tmp/outside.txt", _FILE, b"mine", ""),),
    "symlink": (
        ("a", tarfile.SYMTYPE, b"", "../../.."),
        ("a/outside.txt", _FILE, b"mine", ""),
    ),
    "hard link": (("oci-layout", tarfile.LNKTYPE, b"", "/etc/passwd"),),
    "device": (("oci-layout", tarfile.CHRTYPE, b"", ""),),
    "fifo": (("oci-layout", tarfile.FIFOTYPE, b"", ""),),
    "folder": (("oci-layout", tarfile.DIRTYPE, b"", ""),),
    "duplicates": (("oci-layout", _FILE, b"{}", ""), ("oci-layout", _FILE, b"{}", "")),
    "cases": (("bundle.json", _FILE, b"{}", ""), ("BUNDLE.json", _FILE, b"{}", "")),
}


@pytest.mark.parametrize("members", _TARS.values(), ids=_TARS)
@pytest.mark.parametrize("format", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_tar_of_another_making_is_refused(
    members: Any, format: int, attempt: Attempt, home: Home, tmp_path: Path
) -> None:
    """Whatever its members are called and wherever they lead."""
    file = tmp_path / "m.tar"
    file.write_bytes(_tar(*members, format=format))
    ended = attempt(import_archive, file, home.folder)
    assert (ended.kind, ended.code) == ("refused", "damaged_bundle")
    assert home.is_unchanged()


def _zip_of(data: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../outside.txt", data)
    return target.getvalue()


_ZEROS = bytes(200_000_000)
_BOMBS: dict[str, Callable[[], bytes]] = {
    "zip": lambda: _zip_of(_ZEROS),
    "gzip": lambda: gzip.compress(_ZEROS, 1),
    "bzip2": lambda: bz2.compress(_ZEROS, 1),
    "xz": lambda: lzma.compress(_ZEROS, preset=0),
    "zstd": lambda: zstd.compress(_ZEROS),
    "empty": lambda: b"",
    "one byte": lambda: b"\0",
    "zeros": lambda: bytes(10_240),
}


@pytest.mark.parametrize("make", _BOMBS.values(), ids=_BOMBS)
def test_nothing_is_unpacked_on_import(
    make: Callable[[], bytes], attempt: Attempt, home: Home, tmp_path: Path
) -> None:
    """A bomb of any kind stays as small as it came."""
    file = tmp_path / "m.tar"
    file.write_bytes(make())
    ended = attempt(import_archive, file, home.folder)
    assert (ended.kind, ended.code) == ("refused", "damaged_bundle")
    assert home.is_unchanged()


def _with_manifest(archive: Path, change: Callable[[dict[str, Any]], None]) -> bytes:
    """The archive's beginning with another manifest, whose header fits it."""
    with tarfile.open(archive) as tar:
        members = tar.getmembers()
        document = json.load(tar.extractfile(members[1]))  # type: ignore[arg-type]
    change(document)
    return _opening(archive, canonical_json(document))


def _opening(archive: Path, manifest: bytes, size: int | None = None) -> bytes:
    info = tarfile.TarInfo(f"blobs/sha256/{hashlib.sha256(manifest).hexdigest()}")
    info.size = len(manifest) if size is None else size
    info.mode = 0o444
    data = archive.read_bytes()
    return (
        data[:1024]
        + info.tobuf(tarfile.GNU_FORMAT)
        + manifest
        + bytes(-len(manifest) % 512)
        + data[1024:]
    )


def _rename(path: str) -> Callable[[dict[str, Any]], None]:
    return lambda document: document["files"][1].update(path=path)


_MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], None], str]] = {
    "traversal": (_rename("../../outside.txt"), "bad_path"),
    "hidden traversal": (_rename("a/../../outside.txt"), "bad_path"),
    "absolute": (_rename("/tmp/outside.txt"), "bad_path"),
    "windows": (_rename("C:\\outside.txt"), "bad_path"),
    "nul": (_rename("a\0b"), "bad_path"),
    "own name": (_rename("Bundle.JSON"), "bad_path"),
    "long": (_rename("a" * 100_000), "bad_path"),
    "duplicate": (_rename("model.onnx"), "bad_path"),
    "case": (_rename("MODEL.onnx"), "bad_path"),
    "size lies": (lambda document: document["files"][0].update(size=3), "damaged_bundle"),
    "huge size": (lambda document: document["files"][0].update(size=2**49), "damaged_bundle"),
    "absurd size": (lambda document: document["files"][0].update(size=2**63), "bad_manifest"),
    "negative size": (lambda document: document["files"][0].update(size=-1), "bad_manifest"),
    "digest lies": (
        lambda document: document["files"][0].update(sha256="0" * 64),
        "damaged_bundle",
    ),
    "digest is a path": (
        lambda document: document["files"][0].update(sha256="../" * 21 + "a"),
        "bad_manifest",
    ),
    "many files": (
        lambda document: document.update(
            files=[{**document["files"][0], "path": f"{index}"} for index in range(MOST_FILES + 1)]
        ),
        "bad_manifest",
    ),
    "serving elsewhere": (
        lambda document: document["serving"].update(path="/etc/passwd"),
        "bad_manifest",
    ),
    "samples elsewhere": (lambda document: document.update(samples="../x"), "bad_manifest"),
    "pickle": (lambda document: document["serving"].update(format="pickle"), "bad_manifest"),
    "unknown field": (lambda document: document.update(on_load="rm -rf /"), "bad_manifest"),
    "packages by address": (
        lambda document: document["serving"].update(packages=["evil @ http://evil.example/x"]),
        "bad_manifest",
    ),
    "deep": (
        lambda document: document.update(lineage={"parameters": {"a": _nested(900)}}),
        "damaged_bundle",
    ),
}


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    bundle = make_bundle(folder / "b", name="m", model=b"m" * 2000, files={"notes.md": b"hello"})
    export_bundle(bundle, folder / "m.tar")
    return folder / "m.tar"


@pytest.mark.parametrize(("change", "code"), _MANIFESTS.values(), ids=_MANIFESTS)
def test_a_manifest_that_means_harm_is_refused(
    change: Callable[[dict[str, Any]], None],
    code: str,
    archive: Path,
    attempt: Attempt,
    home: Home,
    tmp_path: Path,
) -> None:
    """With its own reason, and before a byte is put."""
    file = tmp_path / "m.tar"
    file.write_bytes(_with_manifest(archive, change))
    ended = attempt(import_archive, file, home.folder)
    assert (ended.kind, ended.code) == ("refused", code)
    assert home.is_unchanged()


_RAW = {
    "deep arrays": b'{"lineage":{"parameters":{"a":' + b"[" * 5_000_000,
    "deep objects": b'{"lineage":{"parameters":' + b'{"a":' * 2_000_000,
    "huge number": b'{"files":[{"size":' + b"9" * 10_000_000 + b"}]}",
    "huge exponent": b'{"lineage":{"parameters":{"a":1e' + b"9" * 10_000_000 + b"}}}",
    "huge text": b'{"name":"' + b"a" * 10_000_000 + b'"}',
    "not UTF-8": b'{"name":"\xff\xfe"}',
    "list": b"[]",
    "nothing": b"",
}


@pytest.mark.parametrize("manifest", _RAW.values(), ids=_RAW)
def test_a_manifest_that_is_a_bomb_is_refused(
    manifest: bytes, archive: Path, attempt: Attempt, home: Home, tmp_path: Path
) -> None:
    """At once, whatever it would unfold to."""
    file = tmp_path / "m.tar"
    file.write_bytes(_opening(archive, manifest))
    ended = attempt(import_archive, file, home.folder)
    assert (ended.kind, ended.code) == ("refused", "bad_manifest")
    assert ended.seconds < 20
    assert home.is_unchanged()


@pytest.mark.parametrize("size", [2**31, 2**33 - 1])
def test_a_manifest_whose_header_lies_is_not_read(
    size: int, archive: Path, attempt: Attempt, home: Home, tmp_path: Path
) -> None:
    """A header that announces gigabytes makes no room for them."""
    file = tmp_path / "m.tar"
    file.write_bytes(_opening(archive, b"{}", size))
    ended = attempt(import_archive, file, home.folder)
    assert (ended.kind, ended.code) == ("refused", "damaged_bundle")
    assert home.is_unchanged()


def test_a_sparse_file_of_terabytes_is_refused_at_once(
    archive: Path, attempt: Attempt, home: Home, tmp_path: Path
) -> None:
    """It costs nothing to make and would take hours to read."""
    file = tmp_path / "m.tar"
    file.write_bytes(archive.read_bytes())
    with file.open("r+b") as opened:
        opened.truncate(2**42)
    ended = attempt(import_archive, file, home.folder)
    assert (ended.kind, ended.code) == ("refused", "damaged_bundle")
    assert ended.seconds < 20
    assert home.is_unchanged()


@pytest.mark.parametrize("kind", ["folder", "fifo", "symlink", "device"])
def test_what_is_no_file_is_not_read(
    kind: str, attempt: Attempt, home: Home, tmp_path: Path
) -> None:
    """A pipe that nobody writes to would keep the command for ever; a device never ends."""
    import os

    file = tmp_path / "inner" / "m.tar"
    if kind == "folder":
        file.mkdir()
    elif kind == "fifo":
        os.mkfifo(file)
    elif kind == "symlink":
        file.symlink_to("/dev/zero")
    else:
        file = Path("/dev/zero")
    ended = attempt(import_archive, file, home.folder)
    assert ended.kind == "refused"
    assert ended.code in ("no_such_file", "damaged_bundle")
    assert ended.seconds < 20
