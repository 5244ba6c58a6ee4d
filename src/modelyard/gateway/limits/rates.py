"""Rates: units a minute, by a token bucket that all workers of a home share."""

import math
from typing import Final

from modelyard.core.errors import Exhausted, ModelyardError
from modelyard.core.limits import Headroom
from modelyard.gateway.limits.pockets import Pocket
from modelyard.gateway.limits.till import HELD, Cell, Head, Kind

_MINUTE_NS: Final = 60_000_000_000


class RatePocket(Pocket):
    """Of so many units a minute: a token bucket, one for the node."""

    __slots__ = ()
    kind = Kind.RATE

    def free(self) -> int:
        """The tokens that are there now."""
        till, now_ns = self._till, self._clock.monotonic_ns()
        cells, reals, row = till.cells, till.reals, self.row
        burst, stamp = self._burst(), cells[row + Cell.STAMP]
        if not stamp:
            level = burst
        else:
            grown = self._a_minute() * max(now_ns - stamp, 0) / _MINUTE_NS
            level = min(reals[row + Cell.LEVEL] + grown, burst)
        # The moment first: killed in between, some tokens are lost and none is made of nothing.
        cells[row + Cell.STAMP] = now_ns
        reals[row + Cell.LEVEL] = level
        return math.floor(level + 1e-6)

    def _a_minute(self) -> float:
        return self.limit.amount * self.limit.step / self._till.cells[Head.NODES]

    def _burst(self) -> float:
        whole = (self.limit.burst or self.limit.amount) * self.limit.step
        return max(whole / self._till.cells[Head.NODES], min(whole, self.limit.step))

    def take(self, amount: int, free: int) -> None:
        """Have an amount at hand that is free, and some more for calls to come."""
        more = self._more(amount, free)
        self._hold(self.left + more)
        self._till.reals[self.row + Cell.LEVEL] -= amount + more
        self.left += amount + more

    def put_back(self) -> None:
        """Have nothing at hand any more."""
        left, self.left = self.left, 0
        self._till.reals[self.row + Cell.LEVEL] += left
        self._hold(0)

    def settle(self, amount: int, cost: int) -> None:
        """A call has cost more or less than was known before it ran; what is owed is below 0."""
        self.left += amount - cost
        self._hold(max(self.left, self._cells[self._at + HELD]))

    def lacks(self, amount: int) -> ModelyardError | None:
        """Refused until there are enough, unless others have some that they do not use."""
        if self.is_held_by_others():
            return None
        a_minute, burst = self._a_minute(), self._burst()
        level = self._till.reals[self.row + Cell.LEVEL]
        steps, unit = self.limit.step, self.limit.unit
        error = Exhausted(
            "rate_exceeded",
            f"more than {self.limit.amount} {unit}s a minute, which is the limit {self.limit.id}; "
            "call more slowly"
            if amount <= burst
            else f"a call of {amount // steps} {unit}s is more than the limit {self.limit.id} ever "
            "lets through at once; make it smaller",
            retry_after_s=(amount - level) * 60 / a_minute
            if a_minute and amount <= burst
            else None,
        )
        error.headroom = Headroom(
            limit=self.limit.amount,
            remaining=max(int(level), 0) // steps,
            unit=unit,
            resets_s=(burst - level) * 60 / a_minute if a_minute else None,
        )
        return error
