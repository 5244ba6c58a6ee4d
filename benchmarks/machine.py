"""What a result was measured on: the machine, the packages and the commit."""

import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path

import msgspec
import psutil

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "grpcio",
    "httptools",
    "modelyard",
    "msgspec",
    "numpy",
    "onnxruntime",
    "orjson",
    "scikit-learn",
    "skl2onnx",
    "uvicorn",
    "uvloop",
)


class Machine(msgspec.Struct, frozen=True):
    """The machine as it was when the run began."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    system: str
    python: str
    packages: dict[str, str]
    load_average: float
    """Of the last minute, before the run: above a few tenths, somebody else was at work."""


class Commit(msgspec.Struct, frozen=True):
    """The source that was measured; `dirty` names nothing but says that it is not the commit's."""

    sha: str
    dirty: bool


def describe_machine() -> Machine:
    """Look at the machine. Takes some milliseconds."""
    return Machine(
        cpu=_cpu_model(),
        cores=psutil.cpu_count() or 1,
        memory_bytes=psutil.virtual_memory().total,
        kernel=platform.release(),
        system=_system(),
        python=platform.python_version(),
        packages={name: _version(name) for name in PACKAGES},
        load_average=round(os.getloadavg()[0], 2),
    )


def describe_commit(root: Path = ROOT) -> Commit:
    """The checkout's commit; results already written do not make it dirty."""
    sha = _git(root, "rev-parse", "HEAD") or "unknown"
    changed = _git(root, "status", "--porcelain", "--", ".", ":!benchmarks/results")
    return Commit(sha, dirty=bool(changed) or sha == "unknown")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()
