"""ONNX on onnxruntime. Knows no scikit-learn, no pandas, no `onnx` package."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import onnxruntime

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.memory import memory_folder
from modelyard.bundle.trust import EXTERNAL_DATA
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid, UntrustedFormat
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature

# onnxruntime raises what it would print; callers decide what is logged.
_FATAL_ONLY: Final = 4

_FAILURES: Final = (
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
)
_HAS_MEMORY_FILES: Final = hasattr(os, "memfd_create")
_OUT_OF_MEMORY: Final = ("Failed to allocate memory", "bad_alloc", "bad allocation")


class OnnxRuntime:
    """An onnxruntime session behind the runtime port."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        signature: Signature,
        folder: contextlib.ExitStack | None = None,
    ) -> None:
        self._session = session
        self._signature = signature
        # Owned: holds the external data that the session may still map.
        self._folder = folder
        self._names = [spec.name for spec in signature.outputs]

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One run of the graph.

        Raises `Invalid` where the graph fails on these inputs: its signature cannot say which
        free axes must be equal, nor which values an index may have.
        """
        try:
            values = self._session.run(self._names, inputs)
        except _FAILURES as error:
            if any(word in str(error) for word in _OUT_OF_MEMORY):
                raise
            raise Invalid(
                "model_refused",
                "the model cannot take this input: its tensors are allowed one by one, but their "
                "shapes or values do not fit each other or the graph",
            ) from error
        return dict(zip(self._names, values, strict=True))

    def close(self) -> None:
        """Free the temporary folder; the session goes with its last reference."""
        if self._folder is not None:
            self._folder.close()
            self._folder = None


def open_onnx(bundle: Bundle, threads: int) -> OnnxRuntime:
    """The runtime of a bundle whose serving file is ONNX."""
    manifest = bundle.manifest
    path = manifest.serving.path
    weights = [file.path for file in manifest.files if file.media_type == EXTERNAL_DATA]
    needs_disk = bool(weights) or not _HAS_MEMORY_FILES
    # A folder of its own: there a graph finds as its weights what the bundle holds, and no other
    # file of this machine, whatever it names.
    with contextlib.ExitStack() as stack:
        root = stack.enter_context(_folder(in_memory=bundle.is_secret and needs_disk))
        for each in weights:
            _put(bundle, each, root)
        with _laid_out(bundle, path, root):
            session = open_session(root / path, threads=threads)
        return OnnxRuntime(session, manifest.signature, stack.pop_all() if weights else None)


@contextlib.contextmanager
def _folder(*, in_memory: bool) -> Iterator[Path]:
    if in_memory:
        with memory_folder() as root:
            yield root
    else:
        with tempfile.TemporaryDirectory(prefix="modelyard-onnx-") as name:
            yield Path(name)


@contextlib.contextmanager
def _laid_out(bundle: Bundle, path: str, root: Path) -> Iterator[None]:
    """The model's verified bytes under its path, for as long as it is opened.

    By its path, not as bytes: of those onnxruntime keeps a copy for as long as the session lives,
    which doubles a model's memory. The path leads to memory of this process, not to another file
    on the disk.
    """
    if not _HAS_MEMORY_FILES:
        _put(bundle, path, root)
        yield
        return
    with os.fdopen(os.memfd_create("modelyard-model"), "wb") as memory:
        bundle.copy(path, memory)
        memory.flush()
        link = root / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"/proc/self/fd/{memory.fileno()}")
        yield
        link.unlink()


def _put(bundle: Bundle, path: str, root: Path) -> None:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("wb") as file:
        bundle.copy(path, file)


def open_session(model: bytes | Path, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """A quiet session; raises `Invalid` or `UntrustedFormat`.

    Threads spin for work only while a run lasts: between the many small steps of a graph, waking
    them costs more than the steps. Past its end they would take whole cores from all others.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.add_session_config_entry("session.intra_op.allow_spinning", "1" if threads > 1 else "0")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(
            model if isinstance(model, bytes) else str(model),
            options,
            providers=["CPUExecutionProvider"],
        )
    except Exception as error:  # noqa: BLE001 - onnxruntime's exceptions have no common base
        raise _refusal(str(error)) from None


def _refusal(message: str) -> Invalid | UntrustedFormat:
    text = " ".join(message.split())
    if "is not a registered function/op" in text:
        return UntrustedFormat(
            "unknown_operator",
            f"the ONNX model uses an operator that onnxruntime does not know: {text:.300}",
        )
    return Invalid("bad_onnx", f"onnxruntime cannot open this ONNX model: {text:.300}")
