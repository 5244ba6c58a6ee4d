"""A fitted estimator as an ONNX graph, by skl2onnx and onnxmltools.

The converters see a copy of the estimator, rewritten into the forms that they understand; the
estimator itself is never touched. Whether the graph is right is not decided here: see `ladder`.
"""

import warnings
from dataclasses import dataclass
from typing import Any, Final

from modelyard.core.datatypes import Datatype
from modelyard.core.signature import Signature
from modelyard.optimise.boundary import with_boundary
from modelyard.optimise.rewrite import rewritten
from modelyard.optimise.trees import tree_converters
from modelyard.runtimes.steps import last_step

OPSETS: Final = {"": 18, "ai.onnx.ml": 3}


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way to convert: in which precision, and whether trees get float32 whatever comes in."""

    datatype: Datatype
    cast_trees: bool = False

    def __str__(self) -> str:
        return f"{self.datatype}{' with float32 trees' if self.cast_trees else ''}"


def convert(model: Any, signature: Signature, attempt: Attempt) -> tuple[bytes, Signature]:
    """The ONNX graph of an estimator, and its signature in the precision of the attempt.

    Inputs and outputs are named as `signature` names them. Raises whatever the converters raise.
    """
    names = [column.name for column in signature.columns]
    twin = rewritten(model, names, cast_trees=attempt.cast_trees)
    with warnings.catch_warnings():
        # What the converters deplore is decided by the proof.
        warnings.simplefilter("ignore")
        graph = _convert(twin.model, signature, attempt)
    _set_locale(graph)
    return with_boundary(graph, signature, attempt.datatype, twin.classes)


def _convert(model: Any, signature: Signature, attempt: Attempt) -> Any:
    from skl2onnx import convert_sklearn

    return convert_sklearn(
        model,
        initial_types=_initial_types(signature, attempt.datatype),
        options={"zipmap": False} if hasattr(last_step(model), "predict_proba") else None,
        target_opset=OPSETS,
        custom_conversion_functions=tree_converters(model),
    )


def _set_locale(graph: Any) -> None:
    """Text is lowered by the C library; its default locale here is one that many machines lack."""
    for node in graph.graph.node:
        if node.op_type == "StringNormalizer":
            kept = [each for each in node.attribute if each.name != "locale"]
            del node.attribute[:]
            node.attribute.extend(kept)
            locale = node.attribute.add()
            locale.name, locale.type, locale.s = "locale", locale.STRING, b"C.UTF-8"


def _initial_types(signature: Signature, datatype: Datatype) -> list[tuple[str, Any]]:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, StringTensorType

    number = DoubleTensorType if datatype is Datatype.FP64 else FloatTensorType
    kinds = [
        StringTensorType if spec.datatype is Datatype.BYTES else number for spec in signature.inputs
    ]
    return [
        (f"in_{index}", kind([None, spec.shape[-1]]))
        for index, (kind, spec) in enumerate(zip(kinds, signature.inputs, strict=True))
    ]
