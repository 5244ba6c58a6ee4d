"""Where bundles are built before they are published: private folders in the home.

Whoever builds holds its folder's `flock`, which the kernel lets go of when the process dies: what
nobody holds was left behind, whatever became of its process number.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

_FOLDER: Final = "staging"


@contextlib.contextmanager
def staging_folder(home: Path) -> Iterator[Path]:
    """An empty folder on the home's disk; gone with everything in it when the block ends."""
    root = home / _FOLDER
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with _locked(root, fcntl.LOCK_SH):
            # Held against sweepers until the new folder has a lock of its own.
            folder = Path(tempfile.mkdtemp(prefix=f"{os.getpid()}-", dir=root))
            stack.enter_context(_locked(folder, fcntl.LOCK_EX))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        yield folder


def abandoned_folders(home: Path) -> Sequence[Path]:
    """Folders whose process has died."""
    try:
        folders = sorted(path for path in (home / _FOLDER).iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    return [folder for folder in folders if not _is_held(folder)]


def sweep_folders(home: Path) -> Sequence[Path]:
    """Remove the folders whose process has died, and say which they were."""
    root = home / _FOLDER
    if not root.is_dir():
        return []
    with _locked(root, fcntl.LOCK_EX):
        doomed = abandoned_folders(home)
        for folder in doomed:
            shutil.rmtree(folder, ignore_errors=True)
    return doomed


@contextlib.contextmanager
def _locked(folder: Path, how: int) -> Iterator[None]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)


def _is_held(folder: Path) -> bool:
    try:
        with _locked(folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
            return False
    except BlockingIOError:
        return True
    except FileNotFoundError:
        # Its owner has just finished.
        return True
