"""The table that training works on, and where each of its rows stands in what it was read from."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from modelyard.bundle.manifest import Dataset


@dataclass(frozen=True, slots=True)
class Table:
    """A frame whose index is the row's position as read, from 0, kept through all cleaning.

    Columns are float64, int64, bool or str; a missing value is NaN. `places` turns positions into
    what a reader can look up: line numbers of a CSV file (1-based, the header is line 1), row
    numbers (from 1) of anything else.
    """

    frame: pd.DataFrame
    dataset: Dataset
    places: Callable[[Sequence[int]], str]


def row_numbers(positions: Sequence[int]) -> str:
    """`row 3`, `rows 3, 7 and 12`: 1-based, five at most."""
    return listed("row", [position + 1 for position in positions])


def listed(noun: str, numbers: Sequence[int], limit: int = 5) -> str:
    """The noun and its numbers, the rest counted."""
    shown = [str(number) for number in numbers[:limit]]
    if len(numbers) > limit:
        return f"{noun}s {', '.join(shown)} and {len(numbers) - limit:,} more"
    if len(shown) == 1:
        return f"{noun} {shown[0]}"
    return f"{noun}s {', '.join(shown[:-1])} and {shown[-1]}"
