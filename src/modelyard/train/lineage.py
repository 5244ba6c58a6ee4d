"""What a training was made of: commit, Python, package versions."""

import platform
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from modelyard.bundle.manifest import SourceCommit

_ALWAYS = ("modelyard", "scikit-learn", "numpy", "scipy", "pandas", "pyarrow")
_BY_ALGORITHM = {"xgboost": ("xgboost-cpu", "xgboost"), "lightgbm": ("lightgbm",)}
_PATIENCE_S = 10


def source_commit(folder: Path) -> SourceCommit | None:
    """The commit that a folder is checked out at, and whether its checkout was changed since.

    None outside a checkout, and where git is missing, slow or refuses.
    """
    git = shutil.which("git")
    if git is None:
        return None
    commit = _run(git, folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changes = _run(git, folder, "status", "--porcelain")
    return None if changes is None else SourceCommit(commit.strip(), bool(changes.strip()))


def _run(git: str, folder: Path, *arguments: str) -> str | None:
    # A checkout may name a program of its own as its file monitor; ours must not start it.
    command = [git, "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def python_version() -> str:
    """The interpreter, as `3.11.2`."""
    return platform.python_version()


def package_versions(algorithm: str) -> dict[str, str]:
    """The versions of the packages that a training of this algorithm runs through."""
    found: dict[str, str] = {}
    for package in (*_ALWAYS, *_BY_ALGORITHM.get(algorithm, ())):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
