"""Death at a chosen step: for tests that a process may be killed anywhere.

A step is a system call that Python's audit hooks show, a call into C of the modules that write
files, or a moment before or after a statement or the end of a transaction.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, Final

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import Pool

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.keyring import Keyring
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry

_AUDITED: Final = ("open", "os.", "fcntl.", "shutil.", "tempfile.")
_WRITERS: Final = ("draft.py", "blobs.py", "encryption.py")


class Countdown:
    """Counts steps, and kills its process (SIGKILL) before step number `last`; 0 never does."""

    def __init__(self, last: int) -> None:
        self.steps = 0
        self._last = last
        self._armed = False

    def arm(self) -> None:
        """Begin to count."""
        for target, names in (
            (
                Engine,
                ("begin", "before_cursor_execute", "after_cursor_execute", "commit", "rollback"),
            ),
            (Pool, ("checkout", "checkin")),
        ):
            for name in names:
                event.listen(target, name, self._on_event)
        sys.addaudithook(self._on_audit)
        sys.setprofile(self._on_call)
        self._armed = True

    def disarm(self) -> None:
        """Stop counting; audit hooks cannot be taken off."""
        sys.setprofile(None)
        self._armed = False

    def _step(self) -> None:
        if not self._armed:
            return
        self.steps += 1
        if self.steps == self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    def _on_event(self, *arguments: Any) -> None:
        self._step()

    def _on_audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        if name.startswith(_AUDITED):
            self._step()

    def _on_call(self, frame: FrameType, kind: str, argument: Any) -> None:
        if kind.startswith("c_") and frame.f_code.co_filename.endswith(_WRITERS):
            self._step()


def open_until(step: int, url: str, root: Path, report: Path) -> None:
    """Open a registry and die before that step; where there are fewer, write how many there are."""
    countdown = Countdown(step)
    countdown.arm()
    Registry.open(url, LocalBlobStore(root)).close()
    countdown.disarm()
    report.write_text(str(countdown.steps))


def publish_until(step: int, url: str, root: Path, bundle: Bundle, report: Path) -> None:
    """Publish and die before that step; where there are fewer, write how many there are.

    Meant to be the target of a process.
    """
    countdown = Countdown(step)
    with Registry.open(url, LocalBlobStore(root)) as registry:
        countdown.arm()
        registry.publish(bundle, actor="crash")
        countdown.disarm()
    report.write_text(str(countdown.steps))


def encrypt_until(step: int, root: Path, keys: str, report: Path) -> None:
    """Encrypt a store's blobs and die before that step; see `publish_until`."""
    _drain_until(step, LocalBlobStore(root, keys=Keyring(keys)).encrypt, report)


def rewrap_until(step: int, root: Path, keys: str, report: Path) -> None:
    """Put the first of the keys in force and die before that step; see `publish_until`."""
    _drain_until(step, LocalBlobStore(root, keys=Keyring(keys)).rewrap, report)


def _drain_until(step: int, work: Callable[[], Iterator[str]], report: Path) -> None:
    countdown = Countdown(step)
    countdown.arm()
    for _ in work():
        pass
    countdown.disarm()
    report.write_text(str(countdown.steps))
