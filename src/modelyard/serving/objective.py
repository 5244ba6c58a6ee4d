"""A latency objective: how large a batch may be, and which calls would come too late anyway."""

from typing import Final

_NEWS: Final = 0.1
"""How much one batch counts in the pace."""
_SURPRISE: Final = 4.0
_MARGIN: Final = (0.3, 0.75, 0.9)
"""From an expected latency of this share of the objective on calls are refused: at the least, at
first, and at the most. What lies above is what an expectation may be off by."""
_OPEN: Final = 0.8
"""Once refusing, calls are let in again from this share of the margin on."""
_STEP: Final = 0.05


class Objective:
    """Nine hundred and ninety of a thousand calls are to be answered within `p99_ms`.

    What is expected of a new call follows from the pace at which rows have lately left, over all
    lanes, and from how many wait before it. An expectation can be wrong, so it never decides alone:
    while nothing waits nobody is refused, so that there is always a batch to learn from, and one
    batch that took strangely long counts as four times the usual. How far to trust it is learned
    too: the margin falls by 99 for each batch that came late and grows by 1 for each that did not,
    so that it comes to rest where one in a hundred is late.
    """

    def __init__(self, p99_ms: float) -> None:
        self._limit_ns = p99_ms * 1e6
        self._row_ns = 0.0
        self._batch_ns = 0.0
        self._margin = _MARGIN[1]
        self._is_shut = False

    @property
    def batch_us(self) -> float:
        """How long a batch may take: who comes just after one has begun waits for two."""
        return self._limit_ns / 2000

    def observe(self, rows: int, took_ns: int, paced_ns: float) -> None:
        """Take in that a batch took so long, and that after `paced_ns` the next one could end."""
        self._batch_ns = _moved(self._batch_ns, took_ns)
        self._row_ns = _moved(self._row_ns, paced_ns / rows)

    def judge(self, latency_ns: int) -> None:
        """Take in after how long the first call of a batch was answered."""
        step = -_STEP if latency_ns > self._limit_ns else _STEP / 99
        self._margin = min(max(self._margin + step, _MARGIN[0]), _MARGIN[2])

    def expected_ns(self, rows_before: float) -> float:
        """How long a call takes that finds so many rows before it."""
        return rows_before * self._row_ns + self._batch_ns

    def admits(self, rows_before: float, waited_ns: int) -> bool:
        """Whether a call that finds so many rows before it can be answered in time.

        `waited_ns` is for how long the first of those has waited: no pace is as true as that.
        """
        share = max(self.expected_ns(rows_before), waited_ns) / self._limit_ns
        self._is_shut = share > (self._margin * _OPEN if self._is_shut else self._margin)
        return not self._is_shut


def _moved(known: float, new: float) -> float:
    return known + _NEWS * (min(new, _SURPRISE * known) - known) if known else new
