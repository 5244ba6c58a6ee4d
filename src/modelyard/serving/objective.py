"""A latency objective: how large a batch may be, and which calls would come too late anyway."""

from typing import Final

_NEWS: Final = 0.1
"""How much one batch counts in the pace."""
_SURPRISE: Final = 4.0
_SHUT: Final = 0.9
_OPEN: Final = 0.7
"""Shares of the objective: from an expected latency past the first on calls are refused, until it
is below the second. Between them lies what an expectation may be off by."""


class Objective:
    """Nine hundred and ninety of a thousand calls are to be answered within `p99_ms`.

    What is expected of a new call follows from the pace at which rows have lately left, over all
    lanes, and from how many wait before it. An expectation can be wrong, so it never decides alone:
    while nothing waits nobody is refused, so that there is always a batch to learn from, and one
    batch that took strangely long counts as four times the usual.
    """

    def __init__(self, p99_ms: float) -> None:
        self._limit_ns = p99_ms * 1e6
        self._row_ns = 0.0
        self._batch_ns = 0.0
        self._is_shut = False

    @property
    def batch_us(self) -> float:
        """How long a batch may take: who comes just after one has begun waits for two."""
        return self._limit_ns / 2000

    def observe(self, rows: int, took_ns: int, paced_ns: float) -> None:
        """Take in that a batch took so long, and that after `paced_ns` the next one could end."""
        self._batch_ns = _moved(self._batch_ns, took_ns)
        self._row_ns = _moved(self._row_ns, paced_ns / rows)

    def expected_ns(self, rows_before: float) -> float:
        """How long a call takes that finds so many rows before it."""
        return rows_before * self._row_ns + self._batch_ns

    def admits(self, rows_before: float, waited_ns: int) -> bool:
        """Whether a call that finds so many rows before it can be answered in time.

        `waited_ns` is for how long the first of those has waited: no pace is as true as that.
        """
        share = max(self.expected_ns(rows_before), waited_ns) / self._limit_ns
        self._is_shut = share > (_OPEN if self._is_shut else _SHUT)
        return not self._is_shut


def _moved(known: float, new: float) -> float:
    return known + _NEWS * (min(new, _SURPRISE * known) - known) if known else new
