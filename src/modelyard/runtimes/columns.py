"""Which columns a scikit-learn ColumnTransformer selects."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np


def column_positions(selected: Any, names: Sequence[str]) -> list[int]:
    """The positions that a ColumnTransformer's selection means: names, numbers, mask or slice."""
    if isinstance(selected, slice):
        if isinstance(selected.start, str) or isinstance(selected.stop, str):
            first = 0 if selected.start is None else names.index(selected.start)
            last = len(names) - 1 if selected.stop is None else names.index(selected.stop)
            return list(range(first, last + 1))
        return list(range(len(names)))[selected]
    if isinstance(selected, str):
        return [names.index(selected)]
    if isinstance(selected, int | np.integer):
        return [int(selected) % len(names)]
    chosen = list(selected)
    if chosen and all(isinstance(each, bool | np.bool_) for each in chosen):
        return [index for index, each in enumerate(chosen) if each]
    return [
        names.index(each) if isinstance(each, str) else operator.index(each) % len(names)
        for each in chosen
    ]
