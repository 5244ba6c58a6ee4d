"""An ONNX graph written node by node, with weights from one seeded generator."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = 20
# The newest that the oldest onnxruntime of any peer reads.
_IR_VERSION = 9
_DATATYPES = {"FP32": TensorProto.FLOAT, "INT64": TensorProto.INT64}


class Graph:
    """Nodes, weights and their names, in the order in which they were added."""

    def __init__(self, name: str, seed: int) -> None:
        self._name = name
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        """One node of one output; returns the output's name."""
        result = output or f"{operator.lower()}_{len(self._nodes)}"
        self._nodes.append(helper.make_node(operator, list(inputs), [result], **attributes))
        return result

    def weights(self, *shape: int, scale: float) -> str:
        """Random weights of a normal distribution."""
        values = self._random.standard_normal(shape, dtype=np.float32) * np.float32(scale)
        return self.constant(values)

    def constant(self, values: np.ndarray[Any, np.dtype[Any]]) -> str:
        """Weights of given values."""
        name = f"weights_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def shape(self, *lengths: int) -> str:
        """A shape for Reshape and its like."""
        return self.constant(np.array(lengths, np.int64))

    def scalar(self, value: float) -> str:
        """One float32."""
        return self.constant(np.array(value, np.float32))

    def save(
        self,
        path: Path,
        inputs: Sequence[tuple[str, str, Sequence[int]]],
        outputs: Sequence[tuple[str, str, Sequence[int]]],
    ) -> None:
        """Write the model; each value is a name, a datatype and a shape without the batch axis."""
        graph = helper.make_graph(
            self._nodes, self._name, _values(inputs), _values(outputs), self._weights
        )
        opset = helper.make_opsetid("", _OPSET)
        model = helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
        onnx.checker.check_model(model)
        onnx.save(model, str(path))


def _values(described: Sequence[tuple[str, str, Sequence[int]]]) -> list[onnx.ValueInfoProto]:
    return [
        helper.make_tensor_value_info(name, _DATATYPES[datatype], ["batch", *shape])
        for name, datatype, shape in described
    ]
