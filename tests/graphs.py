"""ONNX graphs made for a test, and bundles of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from modelyard.bundle.builder import BundleBuilder
from modelyard.bundle.bundle import Bundle
from modelyard.bundle.manifest import Conversion, Format, Framework, Lineage, Serving
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.signature import Signature, TensorSpec

ROWS = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 1)),), (TensorSpec("y", Datatype.FP32, (-1, 1)),)
)
TURNS_A_SECOND = 5_000_000
"""No more than this many turns of `slow`'s loop run in a second; here it was 1.4 million."""


def bundle_of(
    folder: Path, model: onnx.ModelProto, signature: Signature, name: str = "graph"
) -> Bundle:
    """A bundle that serves the graph, as it is."""
    folder.mkdir(parents=True)
    builder = BundleBuilder(folder)
    builder.add("model.onnx", model.SerializeToString())
    return builder.build(
        name=name,
        framework=Framework("onnx", onnx.__version__),
        serving=Serving(Format.ONNX, "model.onnx"),
        conversion=Conversion(Format.ONNX, "native"),
        signature=signature,
        lineage=Lineage(),
    )


def value(name: str, datatype: Datatype, shape: Sequence[int | str]) -> onnx.ValueInfoProto:
    kind = (
        TensorProto.STRING
        if datatype is Datatype.BYTES
        else helper.np_dtype_to_tensor_dtype(datatype.dtype)
    )
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name: str, array: Array) -> onnx.TensorProto:
    return numpy_helper.from_array(array, name)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    constants: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(nodes, "graph", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def echo() -> tuple[onnx.ModelProto, Signature]:
    """Gives every tensor back, one of each datatype, two columns wide."""
    every = list(Datatype)
    model = model_of(
        [helper.make_node("Identity", [f"in_{each}"], [f"out_{each}"]) for each in every],
        [value(f"in_{each}", each, ["n", "m"]) for each in every],
        [value(f"out_{each}", each, ["n", "m"]) for each in every],
    )
    signature = Signature(
        tuple(TensorSpec(f"in_{each}", each, (-1, -1)) for each in every),
        tuple(TensorSpec(f"out_{each}", each, (-1, -1)) for each in every),
    )
    return model, signature


def double(columns: int = 1) -> tuple[onnx.ModelProto, Signature]:
    """Twice what it gets."""
    model = model_of(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [value("x", Datatype.FP32, ["n", columns])],
        [value("y", Datatype.FP32, ["n", columns])],
    )
    spec = (-1, columns)
    signature = Signature(
        (TensorSpec("x", Datatype.FP32, spec),), (TensorSpec("y", Datatype.FP32, spec),)
    )
    return model, signature


def slow() -> tuple[onnx.ModelProto, Signature]:
    """Gives each row back after as many turns of a loop as the largest number among them says."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["going"], ["goes_on"]),
            helper.make_node("Mul", ["number", "one"], ["next"]),
        ],
        "turn",
        [
            helper.make_tensor_value_info("turn", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("number", TensorProto.FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, []),
        ],
        [constant("one", np.array(1, np.float32))],
    )
    model = model_of(
        [
            helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
            helper.make_node("Cast", ["largest"], ["turns"], to=TensorProto.INT64),
            helper.make_node("Loop", ["turns", "true", "zero"], ["nothing"], body=body),
            helper.make_node("Add", ["x", "nothing"], ["y"]),
        ],
        [value("x", Datatype.FP32, ["n", 1])],
        [value("y", Datatype.FP32, ["n", 1])],
        [constant("true", np.array(True)), constant("zero", np.array(0, np.float32))],
    )
    return model, ROWS
