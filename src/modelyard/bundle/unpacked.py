"""A bundle as a folder: its files under their paths, and `bundle.json` beside them."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.draft import full_disk_named
from modelyard.bundle.manifest import MANIFEST_PATH, MOST_MANIFEST_BYTES, Manifest
from modelyard.core.errors import Conflict, DamagedBundle, Invalid, NotFound


def unpack(bundle: Bundle, folder: Path) -> None:
    """Write a bundle's files into a new folder, each verified on its way.

    Raises `Conflict` where the folder is there, `NotFound` where its parent is not,
    `DamagedBundle` and `Exhausted`.
    """
    _make(folder)
    for path in bundle.files:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with full_disk_named(), target.open("xb") as file:
            bundle.copy(path, file)
    with full_disk_named():
        (folder / MANIFEST_PATH).write_bytes(bundle.manifest.encode())


def read_folder(folder: Path) -> Bundle:
    """The bundle in such a folder, its files not verified yet.

    Raises `NotFound`, `Invalid` for what is no bundle, and `DamagedBundle` for a file too many or
    too few; links are not followed.
    """
    file = folder / MANIFEST_PATH
    if not _is_plain(file):
        raise NotFound(
            "no_bundle",
            f"{folder} is no unpacked bundle: it has no {MANIFEST_PATH}",
            field="folder",
        )
    if file.stat().st_size > MOST_MANIFEST_BYTES:
        raise Invalid("bad_manifest", f"{file} is too large for a manifest", field=MANIFEST_PATH)
    manifest = Manifest.decode(file.read_bytes())
    expected = {MANIFEST_PATH, *(entry.path for entry in manifest.files)}
    for path in _names(folder):
        if path not in expected:
            raise DamagedBundle(
                "stray_file",
                f"'{path:.200}' in {folder} is no file of the bundle",
                field=path[:200],
            )
        expected.discard(path)
    if expected:
        path = min(expected)
        raise DamagedBundle("damaged_bundle", f"'{path}' is missing in {folder}", field=path)
    return Bundle(manifest, {entry.path: folder / entry.path for entry in manifest.files})


def _make(folder: Path) -> None:
    try:
        folder.mkdir()
    except FileExistsError:
        raise Conflict("folder_exists", f"{folder} is there already", field="folder") from None
    except FileNotFoundError:
        raise NotFound(
            "no_such_folder", f"there is no folder {folder.parent}; make it first", field="folder"
        ) from None


def _names(folder: Path) -> Iterator[str]:
    """Everything below a folder that is no folder: whatever it is, by its POSIX path."""
    for root, folders, files in os.walk(folder):
        linked = [each for each in folders if (Path(root) / each).is_symlink()]
        for each in (*files, *linked):
            path = Path(root) / each
            if not _is_plain(path):
                raise DamagedBundle(
                    "stray_file", f"{path} is a link or device, and no file", field=each[:200]
                )
            yield path.relative_to(folder).as_posix()


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False
