"""Checks XGBoost's JSON and UBJSON before its own reader sees them.

That reader takes most indices on trust. What is checked here is what it and prediction follow:
links, features, groups, categories, and the lengths that must agree.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from modelyard.core.errors import Invalid
from modelyard.runtimes.trees import bad_tree, check_links, check_range, integers
from modelyard.runtimes.ubjson import decode_ubjson

_MOST_FEATURES: Final = 10_000_000
_MOST_GROUPS: Final = 100_000
_MOST_CATEGORIES: Final = 2**20
_MOST_CATEGORY_BYTES: Final = 2**30
_NODE_LISTS: Final = (
    "left_children",
    "right_children",
    "parents",
    "split_indices",
    "split_conditions",
    "split_type",
    "default_left",
    "loss_changes",
    "sum_hessian",
)


def check_xgboost(data: bytes) -> None:
    """Raise `Invalid` for a model that its reader should not see."""
    document = decode_ubjson(data) if _is_binary(data) else _decode_json(data)
    learner = _object(_object(document, "the model").get("learner"), "learner")
    shape = _object(learner.get("learner_model_param"), "learner_model_param")
    features = _count(shape, "num_feature", _MOST_FEATURES)
    groups = max(_count(shape, name, _MOST_GROUPS, 0) for name in ("num_class", "num_target"))
    booster = _object(learner.get("gradient_booster"), "gradient_booster")
    match booster.get("name"):
        case "gbtree":
            _check_forest(_object(booster.get("model"), "model"), features, max(groups, 1))
        case "dart":
            inner = _object(booster.get("gbtree"), "gbtree")
            model = _object(inner.get("model"), "model")
            _check_forest(model, features, max(groups, 1))
            _check_length(booster, "weight_drop", _length(model, "trees"))
        case "gblinear":
            model = _object(booster.get("model"), "model")
            _check_length(model, "weights", (features + 1) * max(groups, 1))
        case _:
            raise _bad("its booster is none of gbtree, dart and gblinear")


def _is_binary(data: bytes) -> bool:
    # UBJSON types the length of the first key; JSON opens it with a quote, or has white space.
    return data[1:2] in (b"L", b"l", b"i", b"U", b"I", b"#")


def _decode_json(data: bytes) -> Any:
    try:
        return json.loads(data, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise _bad(f"its JSON cannot be read: {error!s:.100}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        # Which of the two counts is each reader's own choice.
        raise ValueError("it has a key twice")
    return found


def _check_forest(model: Mapping[str, Any], features: int, groups: int) -> None:
    parameters = _object(model.get("gbtree_model_param"), "gbtree_model_param")
    trees = model.get("trees")
    if not isinstance(trees, list) or _count(parameters, "num_trees", len(trees)) != len(trees):
        raise bad_tree("there are not as many as it says")
    _count(parameters, "num_parallel_tree", max(len(trees), 1), 1)
    of_group = integers(model.get("tree_info", ()), "tree_info")
    check_range(of_group, groups, "the group of a tree")
    if len(of_group) != len(trees):
        raise bad_tree("not every tree has a group")
    bounds = integers(model.get("iteration_indptr", ()), "iteration_indptr")
    check_range(bounds, len(trees) + 1, "an iteration")
    if np.any(np.diff(bounds) < 0):
        raise bad_tree("iterations go backwards")
    _check_recoding(model.get("cats"), features)
    for index, tree in enumerate(trees):
        _check_tree(_object(tree, "a tree"), index, features, groups)


def _check_tree(tree: Mapping[str, Any], index: int, features: int, groups: int) -> None:
    parameters = _object(tree.get("tree_param"), "tree_param")
    left = integers(tree.get("left_children"), "left_children")
    right = integers(tree.get("right_children"), "right_children")
    nodes = _count(parameters, "num_nodes", len(left), 1)
    if tree.get("id") != index:
        raise bad_tree("one has another's number")
    for name in _NODE_LISTS:
        if name in tree:
            _check_length(tree, name, nodes)
    inner = left != -1
    values = _count(parameters, "size_leaf_vector", groups)
    if values > 1:
        # A leaf of several values says on its right which of them are its own.
        leaves = nodes - int(inner.sum())
        check_range(right[~inner], leaves, "a leaf")
        _check_length(tree, "base_weights", nodes * values)
        _check_length(tree, "leaf_weights", leaves * values)
    else:
        _check_length(tree, "base_weights", nodes)
        if np.any((right != -1) != inner):
            raise bad_tree("a node has one child")
    check_links(np.concatenate((left[inner], right[inner])), nodes)
    used = integers(tree.get("split_indices"), "split_indices")
    check_range(used[inner], features, "a feature")
    _check_categories(tree, inner, nodes)


def _check_categories(tree: Mapping[str, Any], inner: Any, nodes: int) -> None:
    kinds = integers(tree.get("split_type", ()), "split_type")
    names = ("categories", "categories_nodes", "categories_segments", "categories_sizes")
    values, owners, starts, sizes = (integers(tree.get(name, ()), name) for name in names)
    check_range(values, _MOST_CATEGORIES, "a category")
    if not len(owners) == len(starts) == len(sizes):
        raise bad_tree("categories belong to no node")
    check_range(owners, nodes, "the node of a category")
    check_range(starts, len(values) + 1, "a list of categories")
    check_range(sizes, len(values) + 1, "the length of a list of categories")
    if np.any(starts + sizes > len(values)) or np.any(np.diff(owners) <= 0):
        raise bad_tree("lists of categories overlap")
    wanted = np.flatnonzero(kinds.astype(bool) & inner) if len(kinds) else kinds
    if not np.array_equal(wanted, owners):
        raise bad_tree("a node splits by categories that it has not")
    if len(owners) * (int(values.max(initial=0)) + 8) // 8 > _MOST_CATEGORY_BYTES:
        raise bad_tree("its categories need more memory than a model should")


def _check_recoding(cats: Any, features: int) -> None:
    """The container that turns the categories of a data frame into numbers."""
    if cats is None:
        return
    cats = _object(cats, "cats")
    order = integers(cats.get("sorted_idx", ()), "sorted_idx")
    ends = integers(cats.get("feature_segments", ()), "feature_segments")
    check_range(ends, len(order) + 1, "the categories of a feature")
    if np.any(np.diff(ends) < 0) or len(ends) not in (0, features + 1):
        raise bad_tree("features and their categories do not fit")
    encodings = cats.get("enc", [])
    if not isinstance(encodings, list) or len(encodings) != max(len(ends) - 1, 0):
        raise bad_tree("features and their categories do not fit")
    for index, each in enumerate(encodings):
        size = int(ends[index + 1] - ends[index])
        part = order[ends[index] : ends[index + 1]]
        check_range(part, max(size, 1), "the order of categories")
        encoding = _object(each, "enc")
        values = encoding.get("values", ())
        if encoding.get("offsets") is not None and len(encoding["offsets"]):
            offsets = integers(encoding["offsets"], "offsets")
            check_range(offsets, len(values) + 1, "the name of a category")
            if len(offsets) != size + 1 or np.any(np.diff(offsets) < 0):
                raise bad_tree("the names of categories overlap")
        elif len(values) != size:
            raise bad_tree("a category has no name")


def _count(holder: Mapping[str, Any], name: str, most: int, least: int = 0) -> int:
    """A number that XGBoost writes as text."""
    text = holder.get(name, str(least))
    number = int(text) if isinstance(text, str) and text.isdecimal() and len(text) < 19 else -1
    if not least <= number <= most:
        raise bad_tree(f"'{name}' is out of its range")
    return number


def _check_length(holder: Mapping[str, Any], name: str, length: int) -> None:
    if _length(holder, name) != length:
        raise bad_tree(f"'{name}' is not as long as it should be")


def _length(holder: Mapping[str, Any], name: str) -> int:
    values = holder.get(name)
    return len(values) if isinstance(values, list | np.ndarray) else -1


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _bad(f"it has no '{what}'")
    return value


def _bad(reason: str) -> Invalid:
    return Invalid("bad_xgboost", f"this is no XGBoost model: {reason}")
