"""Bundles of a few bytes, for tests of what moves bundles and never opens them."""

from collections.abc import Mapping
from pathlib import Path

from modelyard.bundle.builder import BundleBuilder
from modelyard.bundle.bundle import Bundle
from modelyard.bundle.manifest import (
    Conversion,
    Evaluation,
    Format,
    Framework,
    Lineage,
    Serving,
    Threshold,
)
from modelyard.core.datatypes import Datatype
from modelyard.core.signature import Signature, TensorSpec


def make_bundle(
    folder: Path,
    *,
    name: str = "churn",
    model: bytes = b"not really a model",
    files: Mapping[str, bytes] | None = None,
    passed: bool | None = None,
) -> Bundle:
    """A bundle with its files in a new folder; `passed` is the gate's verdict, None for no gate."""
    folder.mkdir(parents=True)
    builder = BundleBuilder(folder)
    builder.add("model.onnx", model)
    for path, content in (files or {}).items():
        builder.add(path, content)
    return builder.build(
        name=name,
        framework=Framework("none", "0"),
        serving=Serving(Format.ONNX, "model.onnx"),
        conversion=Conversion(Format.ONNX, "native"),
        signature=Signature(
            inputs=(TensorSpec("x", Datatype.FP32, (-1, 1)),),
            outputs=(TensorSpec("y", Datatype.FP32, (-1, 1)),),
        ),
        lineage=Lineage(),
        evaluation=_evaluation(passed),
    )


def _evaluation(passed: bool | None) -> Evaluation:
    if passed is None:
        return Evaluation()
    threshold = Threshold(
        metric="accuracy", dataset="test", value=0.9 if passed else 0.5, passed=passed, minimum=0.8
    )
    return Evaluation(thresholds=(threshold,), verdict="passed" if passed else "failed")
