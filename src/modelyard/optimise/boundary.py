"""Gives a converted graph the inputs and outputs that a signature names."""

from typing import Any, Final

import numpy as np

from modelyard.core.datatypes import Datatype
from modelyard.core.signature import FREE, Column, Signature, TensorSpec
from modelyard.core.table import LABEL

_PREFIX: Final = "model/"


def with_boundary(
    graph: Any, signature: Signature, datatype: Datatype, classes: "np.ndarray[Any, Any] | None"
) -> tuple[bytes, Signature]:
    """The graph between new inputs and outputs, and the signature it then has.

    The converter knows only float and string inputs named `in_0`, `in_1` …; whole numbers and
    booleans are cast on their way in. `classes`, where given, are the labels that the graph's
    whole numbers stand for.
    """
    import onnx

    # Every inner name gets a prefix, so that no column can collide with one.
    inner = onnx.compose.add_prefix(graph, _PREFIX)
    inputs = tuple(_narrowed(spec, datatype) for spec in signature.inputs)
    entries = [_entry(spec, index, datatype) for index, spec in enumerate(inputs)]
    # Trees answer in float32, so nothing is lost by saying so.
    trees = any(node.op_type.startswith("TreeEnsemble") for node in inner.graph.node)
    precision = Datatype.FP32 if trees else datatype
    outputs, exits, tables = _exits(inner.graph.output, signature, precision, classes)
    nodes = [*entries, *inner.graph.node, *exits]
    del inner.graph.node[:]
    inner.graph.node.extend(nodes)
    inner.graph.initializer.extend(tables)
    del inner.graph.input[:]
    inner.graph.input.extend(_value(spec) for spec in inputs)
    del inner.graph.output[:]
    inner.graph.output.extend(_value(spec) for spec in outputs)
    # Shapes that the converter noted for inner values are often wrong, and nobody needs them.
    del inner.graph.value_info[:]
    return inner.SerializeToString(), Signature(inputs, tuple(outputs), True, signature.task)


def _narrowed(spec: TensorSpec, datatype: Datatype) -> TensorSpec:
    if not spec.datatype.is_float:
        return spec
    columns = spec.columns
    if len(columns) == 1:
        columns = (_with_datatype(columns[0], datatype),)
    return TensorSpec(spec.name, datatype, spec.shape, columns, spec.nullable)


def _with_datatype(column: Column, datatype: Datatype) -> Column:
    return Column(
        column.name,
        datatype if column.datatype.is_float else column.datatype,
        column.nullable,
        column.categories,
        column.open_categories,
        column.unit,
    )


def _entry(spec: TensorSpec, index: int, datatype: Datatype) -> Any:
    from onnx import helper

    target = f"{_PREFIX}in_{index}"
    if spec.datatype.is_integer or spec.datatype is Datatype.BOOL:
        return helper.make_node("Cast", [spec.name], [target], to=_onnx_type(datatype))
    return helper.make_node("Identity", [spec.name], [target])


def _exits(
    made: Any,
    signature: Signature,
    precision: Datatype,
    classes: "np.ndarray[Any, Any] | None",
) -> tuple[list[TensorSpec], list[Any], list[Any]]:
    """The outputs, the nodes that shape them, and the constants those need."""
    specs: list[TensorSpec] = []
    nodes: list[Any] = []
    tables: list[Any] = []
    for spec, value in zip(signature.outputs, made, strict=False):
        source = value.name
        if spec.name == LABEL and classes is not None:
            tables.append(_table(classes))
            nodes.append(_node("Gather", [f"{_PREFIX}classes", source], f"{_PREFIX}labelled"))
            source = f"{_PREFIX}labelled"
        if spec.datatype is not Datatype.BYTES:
            to = precision if spec.datatype.is_float else spec.datatype
            nodes.append(_node("Cast", [source], f"{_PREFIX}cast_{spec.name}", to))
            source = f"{_PREFIX}cast_{spec.name}"
        specs.append(_narrowed_output(spec, precision))
        shape = np.array(spec.shape, np.int64)
        tables.append(_constant(f"{_PREFIX}shape_{spec.name}", shape))
        nodes.append(_node("Reshape", [source, f"{_PREFIX}shape_{spec.name}"], spec.name))
    return specs, nodes, tables


def _node(kind: str, inputs: list[str], output: str, to: Datatype | None = None) -> Any:
    from onnx import helper

    if to is None:
        return helper.make_node(kind, inputs, [output])
    return helper.make_node(kind, inputs, [output], to=_onnx_type(to))


def _table(classes: "np.ndarray[Any, Any]") -> Any:
    words = classes.dtype.kind in "OSUT"
    return _constant(f"{_PREFIX}classes", classes.astype(object if words else np.int64, copy=False))


def _constant(name: str, array: "np.ndarray[Any, Any]") -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(array, name)


def _narrowed_output(spec: TensorSpec, precision: Datatype) -> TensorSpec:
    if not spec.datatype.is_float:
        return spec
    columns = tuple(_with_datatype(column, precision) for column in spec.columns)
    return TensorSpec(spec.name, precision, spec.shape, columns, spec.nullable)


def _value(spec: TensorSpec) -> Any:
    from onnx import helper

    shape = [None if length == FREE else length for length in spec.shape]
    return helper.make_tensor_value_info(spec.name, _onnx_type(spec.datatype), shape)


def _onnx_type(datatype: Datatype) -> int:
    from onnx import TensorProto, helper

    if datatype is Datatype.BYTES:
        return int(TensorProto.STRING)
    return int(helper.np_dtype_to_tensor_dtype(datatype.dtype))
