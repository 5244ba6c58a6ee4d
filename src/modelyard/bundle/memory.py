"""Folders in memory, for what must never lie on a disk in the clear.

They look like any other folder, so that libraries that want paths can be given some. Each is held
by a `flock` as staging folders are: what a killed process leaves is swept by the next one.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modelyard.bundle.staging import staging_folder, sweep_folders
from modelyard.core.errors import ModelyardError, Unavailable

_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - held to be memory, and the folder to be ours
_MOUNTS: Final = Path("/proc/self/mountinfo")
_IN_MEMORY: Final = frozenset({"tmpfs", "ramfs"})


@contextlib.contextmanager
def memory_folder(root: Path = _MEMORY) -> Iterator[Path]:
    """An empty folder in memory, for this user alone; gone when the block ends.

    Raises `Unavailable` where this machine has no file system in memory.
    """
    own = root / f"modelyard-{os.geteuid()}"
    _check_in_memory(root)
    with contextlib.suppress(FileExistsError):
        own.mkdir(mode=0o700)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise _refusal(f"{own} is not a folder of this user alone")
    sweep_folders(own)
    with staging_folder(own) as folder:
        yield folder


def _check_in_memory(root: Path) -> None:
    try:
        lines = _MOUNTS.read_text("utf-8", "replace").splitlines()
    except OSError:
        raise _refusal("this system does not say what its folders are made of") from None
    # Later mounts lie over earlier ones: `… MOUNT-POINT … - TYPE SOURCE OPTIONS`.
    kinds = [line.partition(" - ")[2].split()[0] for line in lines if line.split()[4] == str(root)]
    if not kinds or kinds[-1] not in _IN_MEMORY:
        raise _refusal(f"{root} is not in memory")


def _refusal(why: str) -> ModelyardError:
    return Unavailable(
        "no_private_memory",
        f"an encrypted model would have to be written to a disk in the clear: {why}; "
        f"mount a tmpfs at {_MEMORY}",
    )
