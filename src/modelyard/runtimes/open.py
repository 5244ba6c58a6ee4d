"""Opens the runtime that a bundle asks for: check trust, read verified bytes, construct."""

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import entry_points
from typing import Final, cast

from modelyard.bundle.bundle import Bundle
from modelyard.core.errors import NotFound
from modelyard.core.ports import Runtime

GROUP: Final = "modelyard.runtimes"
"""Entry points of this group, named by format, open the formats that are not built in."""

Opener = Callable[[Bundle, int], Runtime]

_OPENERS: Final = {
    "onnx": "modelyard.runtimes.onnx:open_onnx",
    "skops": "modelyard.runtimes.sklearn:open_skops",
    "xgboost": "modelyard.runtimes.xgboost:open_xgboost",
    "lightgbm": "modelyard.runtimes.lightgbm:open_lightgbm",
}
_PLATFORMS: Final = {
    "onnx": "onnxruntime_onnx",
    "skops": "sklearn",
    "xgboost": "xgboost",
    "lightgbm": "lightgbm",
}


def open_runtime(bundle: Bundle, *, threads: int = 1) -> Runtime:
    """The runtime of a bundle, on `threads` threads a call.

    Reads the file that answers and holds it against its digest. Raises `DamagedBundle`,
    `UntrustedFormat`, `Invalid` or `MissingExtra`; never anything else for a bad file.
    """
    return find_opener(bundle.manifest.serving.format)(bundle, threads)


def find_opener(format: str) -> Opener:
    """The function that opens a format; built-in formats cannot be replaced by a plug-in."""
    target = _OPENERS.get(str(format))
    if target is not None:
        module, _, name = target.partition(":")
        return cast(Opener, getattr(import_module(module), name))
    for point in entry_points(group=GROUP, name=str(format)):
        return cast(Opener, point.load())
    raise NotFound(
        "no_runtime", f"nothing installed here opens models of the format '{format!s:.40}'"
    )


def platform_of(format: str) -> str:
    """What the Open Inference Protocol's metadata calls the runtime of a format."""
    return _PLATFORMS.get(str(format), str(format))
