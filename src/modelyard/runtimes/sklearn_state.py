"""Checks the fitted state of a scikit-learn model before it predicts.

A skops file names only types that we trust, but what it fills them with comes from the file.
scikit-learn's compiled parts follow indices without a look: of trees, of neighbours, of support
vectors, of sparse matrices. Those are looked at here.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Final

import numpy as np

from modelyard.runtimes.trees import bad_tree, check_links, check_range, integers

_PLAIN: Final = (str, bytes, int, float, bool, complex, type(None), np.generic)


def check_state(model: object) -> None:
    """Raise `Invalid` where a compiled part would follow an index out of its arrays."""
    for part in _parts(model):
        kind = type(part).__name__
        if kind == "Tree" and hasattr(part, "capacity"):
            _check_tree(part)
        elif kind in ("KDTree", "BallTree") or kind.endswith(("KDTree64", "BallTree64")):
            _check_neighbours(part)
        elif hasattr(part, "check_format"):
            _check_sparse(part)
        elif hasattr(part, "_n_support"):
            _check_support(part)
        width = getattr(part, "n_features_in_", None)
        if isinstance(width, int | np.integer):
            _check_width(part, int(width))


def _parts(model: object) -> Iterator[Any]:
    """Everything inside a model that is an object of its own, each once."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if isinstance(part, _PLAIN) or id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            waiting.extend(part.values())
        elif isinstance(part, list | tuple | set | frozenset):
            waiting.extend(part)
        elif isinstance(part, np.ndarray):
            if part.dtype == object:
                waiting.extend(part.reshape(-1).tolist())
        else:
            yield part
            waiting.extend(getattr(part, "__dict__", {}).values())


def _check_tree(tree: Any) -> None:
    nodes = int(tree.node_count)
    if not 0 < nodes <= int(tree.capacity):
        raise bad_tree("one has more nodes than it holds")
    left, right = integers(tree.children_left, "left"), integers(tree.children_right, "right")
    inner = left != -1
    if np.any((right != -1) != inner):
        raise bad_tree("a node has one child")
    check_links(np.concatenate((left[inner], right[inner])), nodes)
    check_range(integers(tree.feature, "feature")[inner], int(tree.n_features), "a feature")


def _check_width(owner: Any, width: int) -> None:
    """A table of that many columns is what its trees are given."""
    subsets = getattr(owner, "estimators_features_", None)
    for index, each in enumerate(_flat(getattr(owner, "estimators_", None))):
        given = width
        if subsets is not None:
            chosen = integers(subsets[index], "estimators_features_")
            check_range(chosen, width, "a feature")
            given = len(chosen)
        if hasattr(each, "tree_") and int(each.tree_.n_features) != given:
            raise bad_tree("one was made for another table")
    if hasattr(getattr(owner, "tree_", None), "capacity") and int(owner.tree_.n_features) != width:
        raise bad_tree("one was made for another table")
    for predictor in _flat(getattr(owner, "_predictors", None)):
        _check_histogram(predictor, width)


def _flat(estimators: Any) -> Iterable[Any]:
    if isinstance(estimators, np.ndarray):
        return list(estimators.reshape(-1))
    if not isinstance(estimators, list | tuple):
        return ()
    return [each for part in estimators for each in (part if isinstance(part, list) else [part])]


def _check_histogram(predictor: Any, width: int) -> None:
    nodes = predictor.nodes
    inner = ~nodes["is_leaf"].astype(bool)
    children = np.concatenate((nodes["left"][inner], nodes["right"][inner]))
    if not len(nodes):
        raise bad_tree("one has no nodes")
    check_links(children.astype(np.int64), len(nodes))
    check_range(integers(nodes["feature_idx"], "feature_idx")[inner], width, "a feature")
    by_category = inner & nodes["is_categorical"].astype(bool)
    sets = min(len(predictor.raw_left_cat_bitsets), len(predictor.binned_left_cat_bitsets))
    check_range(integers(nodes["bitset_idx"], "bitset_idx")[by_category], sets, "a category")
    for bitsets in (predictor.raw_left_cat_bitsets, predictor.binned_left_cat_bitsets):
        if bitsets.ndim != 2 or bitsets.shape[1] != 8:
            raise bad_tree("its categories are no bit sets")


def _check_neighbours(tree: Any) -> None:
    state = tree.__getstate__()
    data, order, nodes, bounds = (np.asarray(each) for each in state[:4])
    levels, count = int(state[5]), int(state[6])
    if len(nodes) != count or count != 2**levels - 1 or bounds.shape[1] != count:
        raise bad_tree("the neighbours' tree is not as deep as it says")
    check_range(integers(order, "idx_array"), len(data), "a neighbour")
    if len(order) != len(data) or bounds.shape[2] != data.shape[1]:
        raise bad_tree("the neighbours' tree does not fit its table")
    for name in ("idx_start", "idx_end"):
        check_range(integers(nodes[name], name), len(data) + 1, "a neighbour")
    if np.any(nodes["idx_start"] > nodes["idx_end"]):
        raise bad_tree("neighbours go backwards")
    # The last level has no children to go to.
    if not np.all(nodes["is_leaf"][count // 2 :]):
        raise bad_tree("the neighbours' tree has no leaves")


def _check_sparse(matrix: Any) -> None:
    try:
        matrix.check_format(full_check=True)
    except (ValueError, TypeError, IndexError) as error:
        raise bad_tree(f"a sparse matrix is broken: {error!s:.100}") from None


def _check_support(machine: Any) -> None:
    indices = integers(machine.support_, "support_")
    count, vectors = len(indices), machine.support_vectors_
    is_classifier = hasattr(machine, "classes_")
    classes = len(machine.classes_) if is_classifier else 2
    rows = classes - 1 if is_classifier else 1
    held = integers(machine._n_support, "_n_support")
    # Of a regression only the first says anything.
    counted = int(held.sum()) if is_classifier else int(held[:1].sum())
    shape = (count, machine.n_features_in_)
    if machine.kernel == "precomputed":
        check_range(indices, machine.n_features_in_, "a support vector")
        shape = (0, 0)
    if (
        held.min(initial=0) < 0
        or len(held) != classes
        or counted != count
        or tuple(vectors.shape) != shape
        or tuple(machine._dual_coef_.shape) != (rows, count)
        or len(machine._intercept_) != classes * (classes - 1) // 2
    ):
        raise bad_tree("the support vectors do not fit each other")
