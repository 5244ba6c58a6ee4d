"""What a framework module hands over: the model in its framework's own safe file, reopened."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from modelyard.bundle.manifest import Format, Framework
from modelyard.core.ports import Runtime

_ALWAYS = ("numpy", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Native:
    """A model in its own format: the file, and the runtime that the file's own bytes gave."""

    format: Format
    path: str
    data: bytes
    runtime: Runtime


def framework(name: str, distributions: Sequence[str] = ()) -> Framework:
    """The framework's name and installed version."""
    for distribution in distributions or (name,):
        found = _version(distribution)
        if found:
            return Framework(name, found)
    return Framework(name, "unknown")


def packages(names: Sequence[str]) -> dict[str, str]:
    """The installed versions of the packages that made the model, where they are installed."""
    found = {name: _version(name) for name in (*names, *_ALWAYS)}
    return {name: each for name, each in sorted(found.items()) if each}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
