"""What every tree in a model file must be, before native code follows its links.

The readers of the frameworks believe what they read: a child that lies outside of its tree is
memory that is not theirs, and a circle of nodes is a call that never ends.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import Invalid

Integers = NDArray[np.int64]


def check_links(children: Integers, nodes: int) -> None:
    """Refuse children that are no nodes of the tree, a root that is one, and two parents of one.

    Without these, every path from the root comes to an end.
    """
    if children.size == 0:
        return
    if children.min() < 0 or children.max() >= nodes:
        raise bad_tree("a child is no node of its tree")
    counts = np.bincount(children, minlength=1)
    if counts[0] or counts.max() > 1:
        raise bad_tree("a node is the child of two, or the root a child")


def check_range(values: Integers, end: int, what: str) -> None:
    """Refuse values outside of 0 up to `end`."""
    if values.size and (values.min() < 0 or values.max() >= end):
        raise bad_tree(f"{what} is out of its range")


def integers(values: Any, what: str) -> Integers:
    """A list of whole numbers as an array; raises `Invalid` for anything else."""
    try:
        array = np.asarray(values)
    except (ValueError, OverflowError, TypeError):
        raise bad_tree(f"'{what}' holds no numbers") from None
    if array.size == 0:
        return np.zeros(0, np.int64)
    if array.ndim != 1 or array.dtype.kind not in "iub":
        raise bad_tree(f"'{what}' holds no whole numbers")
    return array.astype(np.int64)


def bad_tree(reason: str) -> Invalid:
    """How a model is refused whose trees are none."""
    return Invalid("bad_trees", f"the model's trees are not whole: {reason}; take a good copy")
