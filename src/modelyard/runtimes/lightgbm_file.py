"""Checks LightGBM's text before its own reader sees it.

That reader ends the process, or reads memory that is not its own, where counts and trees are not
what they say. What is checked is what it and prediction follow.
"""

from collections.abc import Iterator
from typing import Final

import numpy as np

from modelyard.core.errors import Invalid
from modelyard.runtimes.trees import Integers, bad_tree, check_range

_MOST_FEATURES: Final = 10_000_000
_MOST_CLASSES: Final = 100_000
_MOST_LEAVES: Final = 10_000_000
_END: Final = "end of trees"
_HEAD: Final = ("num_class", "num_tree_per_iteration", "max_feature_idx")
_INNER_LISTS: Final = ("split_feature", "threshold", "decision_type", "left_child", "right_child")


def check_lightgbm(data: bytes) -> str:
    """The text of a model that its reader may see; raises `Invalid` for any other."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise _bad("it is no text") from None
    if "\0" in text or not text.startswith("tree\n"):
        raise _bad("it does not begin like one")
    first = text.find("\nTree=")
    end = text.find(f"\n{_END}")
    if end < 0 or (first >= 0 and first > end):
        raise _bad("its trees have no end")
    head = _fields(text[: first if first >= 0 else end])
    if any(name not in head for name in _HEAD):
        raise _bad("its head is not whole")
    features = _number(head, "max_feature_idx", 0, _MOST_FEATURES) + 1
    classes = _number(head, "num_class", 1, _MOST_CLASSES)
    each_turn = _number(head, "num_tree_per_iteration", 1, _MOST_CLASSES)
    if each_turn not in (1, classes):
        raise _bad("it has neither one tree a class nor one for all")
    trees = list(_trees(text, first, end, _numbers(head, "tree_sizes"))) if first >= 0 else []
    if len(trees) % each_turn:
        raise _bad("its last turn has not all its trees")
    for index, tree in enumerate(trees):
        _check_tree(_fields(tree), index, features)
    return text


def _trees(text: str, first: int, end: int, sizes: Integers) -> Iterator[str]:
    """Each tree's text: where the sizes say that it is, which is where the reader looks."""
    at = first + 1
    for index, size in enumerate(map(int, sizes)):
        if size <= 0 or at + size > end + 1 or not text.startswith(f"Tree={index}\n", at):
            raise bad_tree("one is not where it should be")
        yield text[at : at + size]
        at += size
    if text[at : end + 1].strip() or not text[first:end].isascii():
        raise bad_tree("there is something between them and their end")


def _check_tree(tree: dict[str, str], index: int, features: int) -> None:
    leaves = _number(tree, "num_leaves", 1, _MOST_LEAVES)
    _number(tree, "Tree", index, index)
    _check_length(tree, "leaf_value", leaves)
    lists = {name: _parts(tree, name) for name in _INNER_LISTS} if leaves > 1 else {}
    if any(len(parts) != leaves - 1 for parts in lists.values()):
        raise bad_tree("a list is not as long as it should be")
    if _number(tree, "is_linear", 0, 1):
        _check_linear(tree, leaves, features)
    if leaves == 1:
        return
    check_range(_numbers(tree, "split_feature"), features, "a feature")
    children = np.concatenate([_numbers(tree, "left_child"), _numbers(tree, "right_child")])
    inner, outer = children[children >= 0], ~children[children < 0]
    check_range(inner, leaves - 1, "a node")
    check_range(outer, leaves, "a leaf")
    for found in (inner, outer):
        if found.size and np.bincount(found).max() > 1:
            raise bad_tree("a node is the child of two")
    if np.any(inner == 0):
        raise bad_tree("the root is a child")
    _check_categories(tree)


def _check_linear(tree: dict[str, str], leaves: int, features: int) -> None:
    """Leaves that hold a line each: of how many features, and of which."""
    _check_length(tree, "leaf_const", leaves)
    counts = _numbers(tree, "num_features")
    check_range(counts, features + 1, "the number of a leaf's features")
    used = _numbers(tree, "leaf_features")
    check_range(used, features, "a leaf's feature")
    if len(counts) != leaves or int(counts.sum()) != len(used):
        raise bad_tree("leaves have other features than they say")
    _check_length(tree, "leaf_coeff", len(used))


def _check_categories(tree: dict[str, str]) -> None:
    sets = _number(tree, "num_cat", 0, _MOST_LEAVES)
    by_category = (_numbers(tree, "decision_type") & 1).astype(bool)
    if not sets:
        if by_category.any():
            raise bad_tree("a node splits by categories that it has not")
        return
    bounds, words = _numbers(tree, "cat_boundaries"), _parts(tree, "cat_threshold")
    if len(bounds) != sets + 1 or bounds[0] != 0 or np.any(np.diff(bounds) < 0):
        raise bad_tree("its lists of categories are out of order")
    if bounds[-1] != len(words):
        raise bad_tree("its lists of categories are not as long as they should be")
    # Of a split by categories the threshold is the number of its list.
    thresholds = np.asarray(_parts(tree, "threshold"))[by_category]
    try:
        check_range(thresholds.astype(np.float64).astype(np.int64), sets, "a list of categories")
    except ValueError:
        raise bad_tree("a threshold is no number") from None


def _fields(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        if not equals:
            continue
        if name in found:
            raise _bad(f"it has '{name:.40}' twice")
        found[name] = value
    return found


def _number(fields: dict[str, str], name: str, least: int, most: int) -> int:
    text = fields.get(name, "0").strip()
    number = int(text) if text.isdecimal() and len(text) < 19 else -1
    if not least <= number <= most:
        raise bad_tree(f"'{name}' is out of its range")
    return number


def _numbers(fields: dict[str, str], name: str) -> Integers:
    try:
        return np.array(_parts(fields, name), np.int64)
    except (ValueError, OverflowError):
        raise bad_tree(f"'{name}' holds no whole numbers") from None


def _parts(fields: dict[str, str], name: str) -> list[str]:
    return fields.get(name, "").split()


def _check_length(fields: dict[str, str], name: str, length: int) -> None:
    if len(_parts(fields, name)) != length:
        raise bad_tree(f"'{name}' is not as long as it should be")


def _bad(reason: str) -> Invalid:
    return Invalid("bad_lightgbm", f"this is no whole LightGBM text model: {reason}")
