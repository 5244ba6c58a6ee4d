"""Virtual environments for bundles that ask for packages of their own.

An environment holds what was asked for, in front of everything that the server itself sees: so a
model's process finds Modelyard as it is here, and its packages as they must be there.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from modelyard.core.errors import Unavailable

_log = logging.getLogger(__name__)

_TOLD_LINES: Final = 3


class Environments:
    """The environments of a home, each made once and kept."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def python(self, packages: Sequence[str]) -> str:
        """An interpreter that has these packages (PEP 508), made if need be; blocks.

        Raises `Unavailable` with what pip said.
        """
        folder = self._root / _digest(packages)
        if not folder.exists():
            self._root.mkdir(parents=True, exist_ok=True)
            with _held(folder.with_suffix(".lock")):
                if not folder.exists():
                    self._make(folder, packages)
        return str(folder / "bin" / "python")

    def _make(self, folder: Path, packages: Sequence[str]) -> None:
        """Build aside and rename: an environment that is there is whole."""
        _log.info("making an environment with %s", ", ".join(packages))
        started = time.monotonic()
        # Named for nobody else: what a build that died has left is in nobody's way.
        aside = Path(tempfile.mkdtemp(prefix="building-", dir=self._root))
        try:
            _run([sys.executable, "-m", "venv", "--without-pip", str(aside)])
            _show_the_servers_packages(aside)
            python = str(aside / "bin" / "python")
            pip = [sys.executable, "-m", "pip", "--python", python]
            quietly = ["--quiet", "--disable-pip-version-check", "--no-input"]
            _run([*pip, "install", *quietly, "--", *packages])
            aside.rename(folder)
        except BaseException:
            shutil.rmtree(aside, ignore_errors=True)
            raise
        _log.info("made it in %.1f s", time.monotonic() - started)


def _digest(packages: Sequence[str]) -> str:
    parts = [sys.version, sys.prefix, sorted(packages)]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def _show_the_servers_packages(folder: Path) -> None:
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    own = Path(sysconfig.get_path("purelib", vars={"base": str(folder), "platbase": str(folder)}))
    # As a site directory, whose own .pth files count: an editable install is one of them. It comes
    # behind the environment's own packages.
    lines = [f"import site; site.addsitedir({path!r})" for path in sorted(paths)]
    (own / "modelyard.pth").write_text("\n".join(lines) + "\n", "utf-8")


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(  # noqa: S603 - venv and pip; requirements were checked, and come after --
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).strip().splitlines()[-_TOLD_LINES:])
        raise Unavailable(
            "no_environment", f"the packages of its own could not be installed: {said:.400}"
        )


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock among all threads and processes; the system drops it with its holder."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
