"""Converters of two scikit-learn parts for which the stock ones are not exact or not complete."""

from typing import Any

import numpy as np

_DOUBLE_TYPE = "DoubleTensorType"


def convert_imputer(scope: Any, operator: Any, container: Any) -> None:
    """A SimpleImputer of numbers, in float32 or float64; the stock one knows float32 only."""
    is_double = type(operator.inputs[0].type).__name__ == _DOUBLE_TYPE
    name = joined(scope, operator, container)
    missing, fills = (scope.get_unique_variable_name(each) for each in ("missing", "fills"))
    values = np.asarray(operator.raw_operator.statistics_, np.float64)
    container.add_initializer(fills, 11 if is_double else 1, [1, len(values)], values.tolist())
    container.add_node("IsNaN", [name], [missing], name=scope.get_unique_operator_name("IsNaN"))
    graph = _Nodes(scope, container, 11 if is_double else 1)
    indicator = operator.raw_operator.indicator_
    output = operator.outputs[0].full_name
    if indicator is None:
        graph.add("Where", missing, fills, name, output=output)
        return
    filled = graph.add("Where", missing, fills, name)
    flags = graph.integers([int(each) for each in indicator.features_])
    flagged = graph.add("Gather", missing, flags, axis=1)
    numbers = graph.add("Cast", flagged, to=11 if is_double else 1)
    graph.add("Concat", filled, numbers, output=output, axis=1)


def joined(scope: Any, operator: Any, container: Any) -> str:
    """The operator's inputs as one, side by side."""
    names = [each.full_name for each in operator.inputs]
    if len(names) == 1:
        return str(names[0])
    target: str = scope.get_unique_variable_name("joined")
    container.add_node(
        "Concat", names, [target], name=scope.get_unique_operator_name("Concat"), axis=1
    )
    return target


def convert_modified_huber(scope: Any, operator: Any, container: Any) -> None:
    """An SGDClassifier with this loss, whose label is the best score's, not the best probability's.

    The probabilities are clipped scores, so that several may be 1, or all 0 (then all are equal).
    """
    model = operator.raw_operator
    is_double = type(operator.inputs[0].type).__name__ == _DOUBLE_TYPE
    graph = _Nodes(scope, container, 11 if is_double else 1)
    features = joined(scope, operator, container)
    classes = len(model.classes_)
    coefficients, intercepts = model.coef_.T, model.intercept_
    if classes == 2:
        coefficients = np.column_stack([-coefficients, coefficients])
        intercepts = np.array([-intercepts[0], intercepts[0]])
    scores = graph.add("MatMul", features, graph.constant(coefficients))
    scores = graph.add("Add", scores, graph.constant(intercepts.reshape(1, -1)))
    clipped = graph.add("Clip", scores, graph.constant(-1.0), graph.constant(1.0))
    shares = graph.add("Add", clipped, graph.constant(1.0))
    total = graph.add("ReduceSum", shares, graph.integers([1]))
    nothing = graph.add("Equal", total, graph.constant(0.0))
    shares = graph.add("Where", nothing, graph.constant(1.0), shares)
    total = graph.add("Where", nothing, graph.constant(float(classes)), total)
    graph.add("Div", shares, total, output=operator.outputs[1].full_name)
    winner = graph.add("ArgMax", scores, axis=1, keepdims=0)
    labels = graph.labels(model.classes_)
    graph.add("Gather", labels, winner, output=operator.outputs[0].full_name)


class _Nodes:
    """Adds nodes and constants of one float type under names of their own."""

    def __init__(self, scope: Any, container: Any, kind: int) -> None:
        self._scope, self._container, self._kind = scope, container, kind

    def add(self, op: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name: str = output or self._scope.get_unique_variable_name(op.lower())
        self._container.add_node(
            op,
            list(inputs),
            [name],
            name=self._scope.get_unique_operator_name(op),
            **attributes,
        )
        return name

    def constant(self, value: Any) -> str:
        array = np.asarray(value, np.float64)
        return self._initializer(self._kind, list(array.shape), array.reshape(-1).tolist())

    def integers(self, values: list[int]) -> str:
        return self._initializer(7, [len(values)], values)

    def labels(self, classes: Any) -> str:
        if np.asarray(classes).dtype.kind in "OSUT":
            words = [str(each).encode() for each in classes]
            return self._initializer(8, [len(words)], words)
        return self.integers([int(each) for each in classes])

    def _initializer(self, kind: int, shape: list[int], values: list[Any]) -> str:
        name: str = self._scope.get_unique_variable_name("constant")
        self._container.add_initializer(name, kind, shape, values)
        return name
