"""ONNX on onnxruntime. Knows no scikit-learn, no pandas, no `onnx` package."""

import shutil
import tempfile
from pathlib import Path
from typing import Final

import msgspec
import onnxruntime

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.trust import EXTERNAL_DATA
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid, UntrustedFormat
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature

# A protobuf message may not pass 2 GB, and onnxruntime copies the bytes that it is given.
_LARGEST_IN_MEMORY: Final = 1_500_000_000
# onnxruntime raises what it would print; callers decide what is logged.
_FATAL_ONLY: Final = 4

_FAILURES: Final = (
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
)
_OUT_OF_MEMORY: Final = ("Failed to allocate memory", "bad_alloc", "bad allocation")


class OnnxRuntime:
    """An onnxruntime session behind the runtime port."""

    def __init__(
        self,
        session: onnxruntime.InferenceSession,
        signature: Signature,
        folder: "tempfile.TemporaryDirectory[str] | None" = None,
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
            self._folder.cleanup()
            self._folder = None


def open_onnx(bundle: Bundle, threads: int) -> OnnxRuntime:
    """The runtime of a bundle whose serving file is ONNX."""
    manifest = bundle.manifest
    entry = bundle.entry(manifest.serving.path)
    external = any(file.media_type == EXTERNAL_DATA for file in manifest.files)
    if not external and entry.size <= _LARGEST_IN_MEMORY:
        session = open_session(bundle.read(entry.path), threads=threads)
        return OnnxRuntime(session, manifest.signature)
    folder = tempfile.TemporaryDirectory(prefix="modelyard-onnx-")
    try:
        root = Path(folder.name)
        _materialise(bundle, root)
        session = open_session(root / entry.path, threads=threads)
    except BaseException:
        folder.cleanup()
        raise
    return OnnxRuntime(session, manifest.signature, folder)


def _materialise(bundle: Bundle, root: Path) -> None:
    """Copy the model and its data under their bundle paths, then verify the copies."""
    entries = tuple(
        file
        for file in bundle.manifest.files
        if file.path == bundle.manifest.serving.path or file.media_type == EXTERNAL_DATA
    )
    copies = {entry.path: root / entry.path for entry in entries}
    for path, target in copies.items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.files[path], target)
    # Verified where they lie now: the originals could change between check and use.
    Bundle(msgspec.structs.replace(bundle.manifest, files=entries), copies).verify()


def open_session(model: bytes | Path, *, threads: int = 1) -> onnxruntime.InferenceSession:
    """A quiet session without spinning threads; raises `Invalid` or `UntrustedFormat`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL_ONLY
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Spinning buys microseconds for one model and takes whole cores from all others.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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
