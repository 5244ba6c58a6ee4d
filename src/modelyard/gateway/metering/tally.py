"""A spool's own file: by its lock others know that the spool's writer lives, and in it are counted
the calls for which there was no room.

Its room is taken when it is made. A slot is a text and a number; the text is written first, so a
slot that counts has its name.
"""

import contextlib
import fcntl
import mmap
import os
import struct
from pathlib import Path
from typing import Final

import msgspec

SUFFIX: Final = ".spool"
_SLOT: Final = 512
_SLOTS: Final = 256
_COUNT: Final = struct.Struct("<QI")
_TEXT_AT: Final = _COUNT.size


class Missed(msgspec.Struct, frozen=True, kw_only=True):
    """Whose calls could not be recorded, in which hour (Unix hours)."""

    tenant: str = ""
    key: str = ""
    model: str = ""
    version: int = 0
    hour: int = 0


class Tally:
    """Counts what could not be recorded, so that the count outlives its process.

    Holds the spool's lock until it is closed. Raises `OSError` where there is no room.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        draft = path.with_suffix(".new")
        self._fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(self._fd, 0, _SLOT * _SLOTS)
            self._memory = mmap.mmap(self._fd, _SLOT * _SLOTS)
            # Locked before it has its name: nobody may take it for that of a dead process.
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            draft.rename(path)
        except BaseException:
            os.close(self._fd)
            with contextlib.suppress(OSError):
                draft.unlink()
            raise
        self._slots: dict[Missed, int] = {}
        self._used = 0

    def add(self, missed: Missed) -> None:
        """Count one call."""
        slot = self._slots.get(missed)
        if slot is None:
            slot = self._slots[missed] = self._open_slot(missed)
        (calls, length) = _COUNT.unpack_from(self._memory, slot)
        _COUNT.pack_into(self._memory, slot, calls + 1, length)

    def counts(self) -> dict[Missed, int]:
        """How many calls of whom."""
        return read_counts(self._memory[:]) if self._slots else {}

    def sync(self) -> None:
        """Make the counts survive a power cut."""
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Let go of the file and of the spool; the file stays."""
        self._memory.close()
        os.close(self._fd)

    def _open_slot(self, missed: Missed) -> int:
        text = msgspec.json.encode(missed)
        if len(text) <= _SLOT - _TEXT_AT and self._used < _SLOTS - 1:
            slot = _SLOT * self._used
            self._used += 1
        else:
            # Better counted for nobody than not at all: the last slot is kept for that.
            text, slot = msgspec.json.encode(Missed()), _SLOT * (_SLOTS - 1)
        (calls, _) = _COUNT.unpack_from(self._memory, slot)
        self._memory[slot + _TEXT_AT : slot + _TEXT_AT + len(text)] = text
        _COUNT.pack_into(self._memory, slot, calls, len(text))
        return slot


def read_counts(data: bytes) -> dict[Missed, int]:
    """The counts in a tally's bytes."""
    found: dict[Missed, int] = {}
    for slot in range(0, len(data) - _SLOT + 1, _SLOT):
        calls, length = _COUNT.unpack_from(data, slot)
        if not calls:
            continue
        text = data[slot + _TEXT_AT : slot + _TEXT_AT + min(length, _SLOT - _TEXT_AT)]
        try:
            missed = msgspec.json.decode(text, type=Missed)
        except (msgspec.DecodeError, UnicodeDecodeError):
            missed = Missed()
        found[missed] = found.get(missed, 0) + calls
    return found
