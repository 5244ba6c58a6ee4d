"""scikit-learn's decision trees and forests as ONNX, vote for vote.

The stock converter lets the tree operator choose the class from a float32 sum of fractions; where
votes are tied, its choice is chance (19 of 380 rows of the breast-cancer table with 20 trees).
Here trees compare float32 features with float64 thresholds and votes are summed in float64, as
scikit-learn does, and the class is the first of the largest. It costs a microsecond a call.
"""

from typing import Any, Final

import numpy as np

_KINDS: Final = frozenset(
    f"{tree}{task}"
    for tree in ("DecisionTree", "ExtraTree", "RandomForest", "ExtraTrees")
    for task in ("Classifier", "Regressor")
)


def is_forest(part: Any) -> bool:
    """Whether `convert_forest` converts this estimator: one output, trees that vote."""
    return (
        type(part).__name__ in _KINDS
        and type(part).__module__.startswith("sklearn.")
        and part.n_outputs_ == 1
    )


def convert_forest(scope: Any, operator: Any, container: Any) -> None:
    """skl2onnx converter of a tree or forest."""
    model = operator.raw_operator
    trees = [each.tree_ for each in getattr(model, "estimators_", [model])]
    classes = getattr(model, "classes_", None)
    targets = 1 if classes is None else len(classes)
    features = _features(scope, operator, container)
    votes = scope.get_unique_variable_name("votes")
    container.add_node(
        "TreeEnsembleRegressor",
        [features],
        [votes],
        op_domain="ai.onnx.ml",
        op_version=3,
        name=scope.get_unique_operator_name("Forest"),
        n_targets=targets,
        **_attributes(trees, is_classifier=classes is not None),
    )
    mean = _divided(scope, container, votes, len(trees))
    if classes is None:
        _typed(scope, container, mean, operator.outputs[0])
        return
    _chosen(scope, container, votes, classes, operator.outputs[0].full_name)
    _typed(scope, container, mean, operator.outputs[1])


def _features(scope: Any, operator: Any, container: Any) -> str:
    """The features rounded to float32, as scikit-learn rounds them, and widened again."""
    name: str = operator.inputs[0].full_name
    for to in (1, 11):  # FLOAT, DOUBLE
        target = scope.get_unique_variable_name("features")
        container.add_node(
            "Cast", [name], [target], name=scope.get_unique_operator_name("Cast"), to=to
        )
        name = target
    return name


def _attributes(trees: list[Any], *, is_classifier: bool) -> dict[str, Any]:
    from onnx import numpy_helper

    columns: dict[str, list[Any]] = {
        name: []
        for name in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes",
            "nodes_truenodeids", "nodes_falsenodeids", "nodes_missing_value_tracks_true",
            "target_treeids", "target_nodeids", "target_ids",
        )
    }  # fmt: skip
    thresholds: list[Any] = []
    weights: list[Any] = []
    for number, tree in enumerate(trees):
        leaf = tree.children_left < 0
        count = tree.node_count
        columns["nodes_treeids"] += [number] * count
        columns["nodes_nodeids"] += range(count)
        columns["nodes_featureids"] += np.where(leaf, 0, tree.feature).tolist()
        columns["nodes_modes"] += np.where(leaf, "LEAF", "BRANCH_LEQ").tolist()
        columns["nodes_truenodeids"] += np.where(leaf, 0, tree.children_left).tolist()
        columns["nodes_falsenodeids"] += np.where(leaf, 0, tree.children_right).tolist()
        columns["nodes_missing_value_tracks_true"] += _missing_to_left(tree)
        thresholds.append(np.where(leaf, 0.0, tree.threshold))
        values = tree.value[:, 0, :]
        if is_classifier:
            values = values / values.sum(axis=1, keepdims=True)
        nodes, targets = np.nonzero(leaf[:, None] & (values != 0))
        columns["target_treeids"] += [number] * len(nodes)
        columns["target_nodeids"] += nodes.tolist()
        columns["target_ids"] += targets.tolist()
        weights.append(values[nodes, targets])
    return columns | {
        "nodes_values_as_tensor": numpy_helper.from_array(np.concatenate(thresholds)),
        "target_weights_as_tensor": numpy_helper.from_array(np.concatenate(weights)),
    }


def _missing_to_left(tree: Any) -> list[int]:
    left = getattr(tree, "missing_go_to_left", None)
    if left is None:
        return [0] * int(tree.node_count)
    return [int(each) for each in left]


def _divided(scope: Any, container: Any, votes: str, count: int) -> str:
    if count == 1:
        return votes
    divisor = scope.get_unique_variable_name("trees")
    mean: str = scope.get_unique_variable_name("mean")
    container.add_initializer(divisor, 1, [], [float(count)])
    container.add_node("Div", [votes, divisor], [mean], name=scope.get_unique_operator_name("Div"))
    return mean


def _typed(scope: Any, container: Any, name: str, output: Any) -> None:
    """The declared output; what follows in the graph expects its declared type."""
    to = 11 if type(output.type).__name__ == "DoubleTensorType" else 1
    container.add_node(
        "Cast",
        [name],
        [output.full_name],
        name=scope.get_unique_operator_name("Cast"),
        to=to,
    )


def _chosen(scope: Any, container: Any, votes: str, classes: Any, output: str) -> None:
    """The first class with the most votes."""
    winner = scope.get_unique_variable_name("winner")
    table = scope.get_unique_variable_name("classes")
    words = np.asarray(classes).dtype.kind in "OSUT"
    values = [str(each).encode() for each in classes] if words else [int(each) for each in classes]
    container.add_initializer(table, 8 if words else 7, [len(values)], values)  # STRING, INT64
    container.add_node(
        "ArgMax",
        [votes],
        [winner],
        name=scope.get_unique_operator_name("ArgMax"),
        axis=1,
        keepdims=0,
    )
    container.add_node(
        "Gather", [table, winner], [output], name=scope.get_unique_operator_name("Gather")
    )
