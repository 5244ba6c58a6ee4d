"""Quotas: what may be spent within a period, of which a home leases its part from the registry."""

from typing import Final

from modelyard.core.errors import Exhausted, ModelyardError, Unavailable
from modelyard.core.limits import Headroom, Limit
from modelyard.core.periods import period_at, period_end
from modelyard.gateway.limits.pockets import Clock, Pocket, PoolPocket
from modelyard.gateway.limits.till import SETTLED, TAKEN, Cell, Head, Kind, Till

_REFUSAL_NS: Final = 500_000_000
"""For how long the registry's word that nothing is left is good."""


def row_key(words: str, period: str) -> str:
    """What the row of a subject in a period is found by."""
    return f"{words}\x1e{period}"


class QuotaPocket(PoolPocket):
    """Of what may be spent within a period; the till's part of it is leased from the registry."""

    __slots__ = ("_end_s", "needed", "period")
    kind = Kind.QUOTA

    def __init__(self, till: Till, limit: Limit, words: str, clock: Clock) -> None:
        super().__init__(till, limit, words, clock)
        self.period = period_at(limit.period, clock.wall())
        self.needed = 0
        """What waiting calls need."""
        self._end_s: float | None = None
        self.look_at_clock()

    def look_at_clock(self) -> None:
        """Know until when calls belong to its period; clocks are set at times."""
        now_s = self._clock.wall()
        if period_at(self.limit.period, now_s) != self.period:
            self.until_ns = 0
            return
        self._end_s = period_end(self.limit.period, now_s)
        if self._end_s is not None:
            self.until_ns = self._clock.monotonic_ns() + int((self._end_s - now_s) * 1e9)

    @property
    def key(self) -> str:
        """What its row is found by: each period has its own."""
        return row_key(self.words, self.period)

    def bind(self) -> None:
        """Know the row; a new one does not know what was spent before."""
        cells = self._till.cells
        Pocket.bind(self)
        if not cells[self.row + Cell.STAMP]:
            cells[self.row + Cell.BASE] = -1
        cells[self.row + Cell.STAMP] = self._clock.monotonic_ns()

    def free(self) -> int:
        """What of the lease nobody holds."""
        cells = self._till.cells
        base = cells[self.row + Cell.BASE]
        return 0 if base < 0 else cells[self.row + Cell.GRANTED] - base - self._till.taken(self.row)

    def settle(self, amount: int, cost: int) -> None:
        """A call has cost this much, which may be more than it had set aside."""
        over = cost - amount
        if over > self.left:
            # Debt: taken though it is not there, so that calls to come wait until it is covered.
            self._cells[self._at + TAKEN] += over - self.left
            self.left = over
        # Before the answer leaves: what was answered is never forgotten.
        self._cells[self._at + SETTLED] += cost
        if over > 0:
            self.left -= over
        elif over < 0:
            self._return(-over)

    def spend(self, amount: int) -> None:
        """A call has cost what it had set aside."""
        self._cells[self._at + SETTLED] += amount

    def lacks(self, amount: int) -> ModelyardError | None:
        """Refused where the registry has nothing, and others have nothing that they do not use."""
        cells, now_ns = self._till.cells, self._clock.monotonic_ns()
        if self.finds_more(amount):
            return None
        refused_at = cells[self.row + Cell.REFUSED_AT]
        if refused_at and 0 <= now_ns - refused_at < _REFUSAL_NS:
            return None if self.is_held_by_others() else self.exhausted()
        if 0 < cells[self.row + Cell.OWED_UNTIL] - now_ns < _REFUSAL_NS:
            return None
        if now_ns < cells[Head.DOWN_UNTIL]:
            if self.is_held_by_others():
                return None
            return Unavailable(
                "quota_unavailable",
                "the registry does not answer, and what was leased of the quota "
                f"{self.limit.id} is spent; try again",
                retry_after_s=1.0,
            )
        self.needed += amount
        return None

    def changed(self) -> None:
        """The limit is another now: what the registry said of it is old."""
        self.put_back()
        self._till.cells[self.row + Cell.REFUSED_AT] = 0

    def exhausted(self) -> Exhausted:
        """What a caller hears when all is spent."""
        resets_s = None if self._end_s is None else max(self._end_s - self._clock.wall(), 0.0)
        error = Exhausted(
            "quota_exhausted",
            f"the quota {self.limit.id} of {self.limit.amount} {self.limit.unit}s "
            + (f"a {self.limit.period} is spent" if resets_s is not None else "in all is spent"),
            retry_after_s=resets_s,
        )
        error.headroom = Headroom(
            limit=self.limit.amount,
            remaining=max(self.free(), 0) // self.limit.step,
            unit=self.limit.unit,
            resets_s=resets_s,
        )
        return error
