"""What a batch costs: running estimates, so that each batch runs where and as large as it pays."""

from typing import Final

_MEMORY: Final = 0.97
"""How much of the past is kept at each observation: the last thirty or so batches decide."""

_TRUSTED: Final = 2.0
"""From how much weight on the estimate is trusted enough to call an observation a surprise."""
_SURPRISE: Final = 4.0
_LEAST_SURPRISE_US: Final = 100.0
_BLOCKED_US: Final = 100_000.0
"""From here on it was no time slice of somebody else's: the model itself blocks."""

_LARGEST: Final = 10
"""Sizes are looked at up to 2 to this power."""
_WORTH: Final = 0.9
"""A batch of twice the size pays where a row of it costs less than this share."""
_NEWS: Final = 0.1
"""How much one observation counts in the cost of its size."""
_TRIALS: Final = 3
"""So many batches of a size are run before it is believed."""
_STALE: Final = 256
"""After so many batches a size that was not used is tried again."""
_IDLE_RISE: Final = 0.02
"""How much more of a lane's time may have been idle than of the batch before."""


class BatchCost:
    """Cost in microseconds as a straight line over rows, fitted by least squares that forgets.

    With one batch size seen, the line goes through that point and the origin's fixed part is taken
    as nothing, which overestimates larger batches: the safe side, since too high an estimate
    only sends a batch to a lane.
    """

    __slots__ = ("_fixed_us", "_row_us", "_rows", "_rows_us", "_squares", "_us", "_weight")

    def __init__(self) -> None:
        self._weight = self._rows = self._us = self._squares = self._rows_us = 0.0
        self._fixed_us = self._row_us = 0.0

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
        weight = self._weight = self._weight * _MEMORY + 1.0
        all_rows = self._rows = self._rows * _MEMORY + rows
        all_us = self._us = self._us * _MEMORY + us
        squares = self._squares = self._squares * _MEMORY + rows * rows
        self._rows_us = self._rows_us * _MEMORY + rows * us
        spread = squares - all_rows * all_rows / weight
        if spread <= 1e-6 * squares:
            self._fixed_us, self._row_us = 0.0, all_us / all_rows
            return
        slope = (self._rows_us - all_rows * all_us / weight) / spread
        slope = min(max(slope, 0.0), all_us / all_rows)
        self._fixed_us, self._row_us = max(0.0, (all_us - slope * all_rows) / weight), slope

    def line(self) -> tuple[float, float]:
        """Fixed microseconds a batch, and microseconds a row; both 0 or more."""
        return self._fixed_us, self._row_us

    def estimate_us(self, rows: int) -> float:
        """Expected microseconds of a batch of `rows`."""
        return self._fixed_us + self._row_us * rows

    def rows_within(self, budget_us: float) -> int:
        """The most rows that are expected to take no longer than `budget_us`; 0 if none."""
        spare_us = budget_us - self._fixed_us
        if spare_us < 0.0:
            return 0
        return int(spare_us / self._row_us) if self._row_us > 0.0 else 1 << 30


class _Size:
    """What a row costs in batches of about one size, how often that was seen, and when last."""

    __slots__ = ("row_us", "seen", "times")

    def __init__(self) -> None:
        self.row_us = 0.0
        self.times = self.seen = 0

    def observe(self, row_us: float, now: int) -> None:
        if now - self.seen > _STALE:
            self.times = 0
        self.times += 1
        self.seen = now
        if self.times > 1:
            # An interrupted batch must not decide; a model that has become slow will soon enough.
            row_us = min(row_us, _SURPRISE * self.row_us)
        self.row_us += max(_NEWS, 1 / self.times) * (row_us - self.row_us)

    def is_known(self, now: int) -> bool:
        return self.times >= _TRIALS and now - self.seen <= _STALE


class BatchSizes:
    """Which batch size pays in a lane: what a row costs, measured for each doubling of the size.

    A line would not do here: while all batches are small it knows nothing of larger ones, and the
    larger ones would never be tried. So a size that is unknown, or has not been seen for long, is
    tried as soon as enough waits; it costs those calls at most twice the time of a known one.
    """

    __slots__ = ("_now", "_sizes")

    def __init__(self) -> None:
        self._sizes = [_Size() for _ in range(_LARGEST + 1)]
        self._now = 0

    def observe(self, rows: int, us: float) -> None:
        """Take in that a batch of `rows` took `us` microseconds."""
        self._now += 1
        self._sizes[min(rows.bit_length() - 1, _LARGEST)].observe(us / rows, self._now)

    def best_rows(self, budget_us: float) -> int:
        """The smallest size past which a larger one brings no more rows a second.

        Only as large as a batch is expected to take no longer than `budget_us`, or than twice a
        batch of the smallest size where that alone is over the budget.
        """
        best = next((size for size, each in enumerate(self._sizes) if each.times), None)
        if best is None:
            return 1
        row_us = self._sizes[best].row_us
        budget_us = max(budget_us, 2 * row_us * (1 << best))
        for size in range(best + 1, _LARGEST + 1):
            larger = self._sizes[size]
            if not larger.is_known(self._now):
                return 1 << (size if row_us * (1 << best) <= budget_us else best)
            if larger.row_us > _WORTH * row_us or larger.row_us * (1 << size) > budget_us:
                break
            best, row_us = size, larger.row_us
        return 1 << best


class LaneCost:
    """What a batch that ran in a lane costs the model, without what the lane waited for.

    A lane waits for the interpreter, some milliseconds when the loop is busy, and for a core when
    the machine is. Counting that would keep a cheap model in lanes for ever. But what a device or
    another process takes is a cost, and to its thread it looks the same; only that it is there each
    time. So of the share that was idle the least that was lately seen counts.
    """

    __slots__ = ("_idle",)

    def __init__(self) -> None:
        self._idle = 1.0

    def of(self, took_ns: int, cpu_ns: int, idle_ns: int) -> float:
        """Microseconds of a batch that took so long, computed and was idle so much of it."""
        self._idle = min(self._idle + _IDLE_RISE, idle_ns / max(1, took_ns))
        return (min(cpu_ns, took_ns) + self._idle * took_ns) / 1000


class QuickestRun:
    """The least time that a batch takes, as lately seen: who has less time left is not run.

    One slow batch moves it little, and each call that is turned away for it lowers it, so that a
    wrong value cannot keep itself alive.
    """

    __slots__ = ("ns",)

    def __init__(self) -> None:
        self.ns = 0

    def observe(self, took_ns: int) -> None:
        """Take in that a batch took so long."""
        self.ns = min(took_ns, self.ns + self.ns // 32 + 1000) if self.ns else took_ns

    def doubt(self) -> None:
        """Take in that a call was turned away."""
        self.ns = max(0, self.ns - self.ns // 8 - 1)
