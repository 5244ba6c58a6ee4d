"""What a batch costs: a running estimate, so that each batch runs where it is cheapest."""

from typing import Final

_MEMORY: Final = 0.97
"""How much of the past is kept at each observation: the last thirty or so batches decide."""

_TRUSTED: Final = 2.0
"""From how much weight on the estimate is trusted enough to call an observation a surprise."""
_SURPRISE: Final = 4.0
_LEAST_SURPRISE_US: Final = 100.0
_BLOCKED_US: Final = 100_000.0
"""From here on it was no time slice of somebody else's: the model itself blocks."""


class BatchCost:
    """Cost in microseconds as a straight line over rows, fitted by least squares that forgets.

    With one batch size seen, the line goes through that point and the origin's fixed part is taken
    as nothing, which overestimates larger batches: the safe side, since too high an estimate
    only sends a batch to a lane.
    """

    __slots__ = ("_rows", "_rows_us", "_squares", "_us", "_weight")

    def __init__(self) -> None:
        self._weight = self._rows = self._us = self._squares = self._rows_us = 0.0

    @property
    def is_known(self) -> bool:
        """Whether any batch has been observed."""
        return self._weight > 0.0

    def observe(self, rows: int, us: float) -> None:
        """Take in that a batch of `rows` took `us` microseconds.

        One that took far longer than expected was most likely interrupted: it counts as four
        times the estimate, so that one bad time slice changes little and a model that has really
        become slow is still found out within a few batches. One that took as long as no time slice
        lasts counts in full: in line, each such batch holds up everybody, health checks included.
        """
        if self._weight >= _TRUSTED and us < _BLOCKED_US:
            us = min(us, max(_SURPRISE * self.estimate_us(rows), _LEAST_SURPRISE_US))
        self._weight = self._weight * _MEMORY + 1.0
        self._rows = self._rows * _MEMORY + rows
        self._us = self._us * _MEMORY + us
        self._squares = self._squares * _MEMORY + rows * rows
        self._rows_us = self._rows_us * _MEMORY + rows * us

    def line(self) -> tuple[float, float]:
        """Fixed microseconds a batch, and microseconds a row; both 0 or more."""
        if not self._weight:
            return 0.0, 0.0
        spread = self._squares - self._rows * self._rows / self._weight
        mean_rows, mean_us = self._rows / self._weight, self._us / self._weight
        if spread <= 1e-6 * self._squares:
            return 0.0, mean_us / mean_rows
        slope = (self._rows_us - self._rows * self._us / self._weight) / spread
        slope = min(max(slope, 0.0), mean_us / mean_rows)
        return max(0.0, mean_us - slope * mean_rows), slope

    def estimate_us(self, rows: int) -> float:
        """Expected microseconds of a batch of `rows`."""
        fixed, slope = self.line()
        return fixed + slope * rows

    def rows_within(self, budget_us: float) -> int:
        """The most rows that are expected to take no longer than `budget_us`; 0 if none."""
        fixed, slope = self.line()
        if fixed > budget_us:
            return 0
        return int((budget_us - fixed) / slope) if slope > 0.0 else 1 << 30
