"""A file that becomes visible whole and durable, or not at all."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Final, Self

from modelyard.core.errors import Exhausted

PREFIX: Final = ".draft-"
"""How the name of an unfinished file begins; nothing else here is named so."""

# EFBIG: the process's own limit on file sizes, which means the same to whoever waits for the file.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class Draft:
    """An unfinished file beside its final place. Leaving the block without `publish` removes it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / f"{PREFIX}{secrets.token_hex(8)}"

    def __enter__(self) -> Self:
        with full_disk_named():
            # 'x': a name that exists already is somebody else's draft.
            self.file: BinaryIO = self._path.open("xb")
        return self

    def publish(self, target: Path, mode: int | None = None) -> None:
        """Make it durable, then visible as `target`, replacing what was there."""
        with full_disk_named():
            self.file.flush()
            if mode is not None:
                os.fchmod(self.file.fileno(), mode)
            os.fsync(self.file.fileno())
            self.file.close()
            self._path.replace(target)
            sync_folder(target.parent)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Closing flushes, which fails again on a full disk: the draft goes either way.
        with contextlib.suppress(OSError):
            self.file.close()
        self._path.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: renames and new files survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def full_disk_named() -> Iterator[None]:
    """Turn the system's 'no space left' into `Exhausted`."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise Exhausted(
            "disk_full",
            f"the disk is full ({error.strerror}); nothing was changed: free some space and "
            "try again",
        ) from error
