"""A virtual environment for every peer, from a pinned list of its own, made when first needed.

Of its own, because the peers' dependencies exclude each other, and because a peer that shared
this project's would share its libraries' pages too. Making one takes 5 to 60 seconds and is never
inside of a measured time.
"""

import hashlib
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from benchmarks.machine import ROOT
from benchmarks.peer import NotPrepared

REQUIREMENTS = ROOT / "benchmarks" / "peers" / "requirements"
FOLDER = ROOT / ".bench" / "environments"
_LIMIT_S = 900


@dataclass(frozen=True)
class Environment:
    """The environment of `requirements/NAME.txt`, whether or not it is made yet."""

    name: str

    @property
    def folder(self) -> Path:
        """Where it lies, ignored by git."""
        return FOLDER / self.name

    @property
    def python(self) -> str:
        """Its interpreter."""
        return self.program("python")

    def program(self, name: str) -> str:
        """A program that one of its packages installs."""
        return str(self.folder / "bin" / name)

    def ensure(self) -> None:
        """Make it, where it is missing or older than its list. Raises `NotPrepared`."""
        wanted = REQUIREMENTS / f"{self.name}.txt"
        digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
        mark = self.folder / "made-from"
        if mark.exists() and mark.read_text("ascii") == digest:
            return
        shutil.rmtree(self.folder, ignore_errors=True)
        # This environment's pip installs into the other: one without its own is made at once.
        _run(sys.executable, "-m", "venv", "--without-pip", str(self.folder))
        pip = [sys.executable, "-m", "pip", "--python", self.python]
        _run(*pip, "install", "--quiet", "--requirement", str(wanted))
        mark.write_text(digest, "ascii")

    def version(self, package: str) -> str:
        """The version that the list pins. Raises `LookupError` where it names no such package."""
        for line in (REQUIREMENTS / f"{self.name}.txt").read_text("utf-8").splitlines():
            name, _, version = line.partition("==")
            if name.lower() == package:
                return version
        raise LookupError(f"{self.name}.txt pins no {package}")


def _run(*command: str) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotPrepared(f"{command[0]} had not ended after {_LIMIT_S} s") from None
    if done.returncode != 0:
        raise NotPrepared(f"{' '.join(command)} failed:\n{done.stderr[-1500:]}")
