"""What onnxruntime says of a session's inputs and outputs, in the protocol's words."""

import re
from collections.abc import Mapping
from typing import Any, Final

import onnxruntime

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import FREE, TensorSpec

_TENSOR: Final = re.compile(r"tensor\((\w+)\)")
_DATATYPES: Final = {
    "bool": Datatype.BOOL,
    "uint8": Datatype.UINT8,
    "uint16": Datatype.UINT16,
    "uint32": Datatype.UINT32,
    "uint64": Datatype.UINT64,
    "int8": Datatype.INT8,
    "int16": Datatype.INT16,
    "int32": Datatype.INT32,
    "int64": Datatype.INT64,
    "float16": Datatype.FP16,
    "float": Datatype.FP32,
    "double": Datatype.FP64,
    "string": Datatype.BYTES,
}


def datatype_of(kind: str) -> Datatype | None:
    """The protocol datatype of what onnxruntime calls `tensor(float)`; None for no tensor."""
    match = _TENSOR.fullmatch(kind)
    return _DATATYPES.get(match.group(1)) if match else None


def input_specs(
    session: onnxruntime.InferenceSession,
) -> tuple[tuple[TensorSpec, ...], dict[tuple[str, int], str]]:
    """The inputs of a session, and the names of their free axes, which share a length."""
    specs: list[TensorSpec] = []
    symbols: dict[tuple[str, int], str] = {}
    for each in session.get_inputs():
        datatype = datatype_of(each.type)
        if datatype is None:
            raise Invalid(
                "unsupported_input",
                f"input '{each.name}' is a {each.type}, which no protocol tensor can hold",
                field=each.name,
            )
        specs.append(TensorSpec(each.name, datatype, free_shape(each.shape)))
        symbols |= {
            (each.name, axis): size for axis, size in enumerate(each.shape) if isinstance(size, str)
        }
    return tuple(specs), symbols


def free_shape(shape: list[Any]) -> tuple[int, ...]:
    """A shape with -1 for every axis that has no length."""
    return tuple(size if isinstance(size, int) and size >= 0 else FREE for size in shape)


def as_sampled(
    inputs: tuple[TensorSpec, ...], sample: Mapping[str, Array]
) -> tuple[TensorSpec, ...]:
    """An input without a declared shape takes the rank of the sample."""
    return tuple(
        spec
        if spec.shape or not sample[spec.name].ndim
        else TensorSpec(spec.name, spec.datatype, (FREE,) * sample[spec.name].ndim)
        for spec in inputs
    )
