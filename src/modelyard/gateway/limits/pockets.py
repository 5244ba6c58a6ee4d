"""Pockets: what one worker has of a subject's allowance at hand, so that most calls ask nobody.

A pocket takes a chunk from the till, spends it call by call, and gives back what it has not used a
moment later. Where little is left it takes no more than the call at hand needs. Where a call finds
nothing, and others have chunks, the row becomes *tight*: they give theirs back, and only when
nobody has one is the call refused. So chunks strand nothing, and no sum exceeds its limit.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from modelyard.core.errors import Exhausted, ModelyardError, Unavailable
from modelyard.core.limits import Headroom, Limit
from modelyard.core.periods import period_at, period_end
from modelyard.gateway.limits.till import HELD, SETTLED, TAKEN, Cell, Head, Kind, Till

NEVER_NS: Final = 1 << 62
_LARGEST_CHUNK: Final = 4096
"""How many calls' worth a worker takes at most at once."""
_LEAST_SHARE: Final = 8
"""A worker's share of what is left, in calls, below which it takes for one call at a time."""
_REFUSAL_NS: Final = 500_000_000
"""For how long the registry's word that nothing is left is good."""
_MINUTE_NS: Final = 60_000_000_000


@dataclass(frozen=True, slots=True)
class Clock:
    """What time it is: `wall` in Unix seconds, `monotonic_ns` since the machine started."""

    wall: Callable[[], float] = time.time
    monotonic_ns: Callable[[], int] = time.monotonic_ns


class Pocket:
    """A worker's part of one subject's allowance.

    `left` is what calls may take without asking: until `until_ns`, a monotonic moment. What a
    column has taken is what it has settled, what calls have set aside, and `left`. All that takes
    from the till needs its lock; `settle` does not.
    """

    __slots__ = (
        "__weakref__",
        "_at",
        "_cells",
        "_chunk",
        "_clock",
        "_generation",
        "_is_exact",
        "_seen",
        "_till",
        "is_watched",
        "left",
        "limit",
        "row",
        "until_ns",
        "watch",
        "words",
    )
    kind: Kind

    def __init__(self, till: Till, limit: Limit, words: str, clock: Clock) -> None:
        self._till = till
        self._cells = till.own.cells
        self._clock = clock
        self._generation = 0
        self._chunk = 1
        self._is_exact = False
        self._at = 0
        self._seen = 0
        self.limit = limit
        self.words = words
        self.left = 0
        self.row = 0
        self.until_ns = NEVER_NS
        self.watch: Callable[[Pocket], None] = _nobody
        self.is_watched = False

    def bind(self) -> None:
        """Know the row, which may have become another's while nothing was held."""
        if self._generation and self._till.cells[self.row] == self._generation:
            return
        self.row = self._till.find(self.key, self.kind)
        self._generation = self._till.cells[self.row]
        self._at = self._till.column_cell(self.row)
        self.left = 0

    @property
    def key(self) -> str:
        """What its row is found by."""
        return self.words

    def free(self) -> int:
        """What any worker may still take."""
        raise NotImplementedError

    def take(self, amount: int, free: int) -> None:
        """Have an amount at hand that is free, and some more for calls to come."""
        raise NotImplementedError

    def put_back(self) -> None:
        """Have nothing at hand any more."""
        raise NotImplementedError

    def settle(self, amount: int, cost: int) -> None:
        """A call that had set an amount aside has cost this much."""
        raise NotImplementedError

    def spend(self, amount: int) -> None:
        """A call has cost what it had set aside: as `settle`, at once."""
        self.settle(amount, amount)

    def lacks(self, amount: int) -> ModelyardError | None:
        """Why a call cannot have this, for good; None where it may wait for it."""
        raise NotImplementedError

    def age(self) -> bool:
        """Give back what others want or nobody used since the last look; whether some is held."""
        if self.left == self._seen or self._is_exact or self._till.cells[self.row + Cell.TIGHT]:
            self.put_back()
            self._chunk = 1
        self._seen = self.left
        return self._cells[self._at + HELD] > 0

    def is_held_by_others(self) -> bool:
        """Whether other workers may have some at hand; then they are asked for it."""
        if not self._till.is_held(self.row):
            return False
        self._till.cells[self.row + Cell.TIGHT] = 1
        self.put_back()
        return True

    def _more(self, amount: int, free: int) -> int:
        """How much to take for calls to come, of what is free."""
        cells = self._till.cells
        share = free // (2 * len(self._till.columns))
        self._is_exact = share < _LEAST_SHARE * amount or cells[self.row + Cell.WANTED] > 0
        if self._is_exact:
            return 0
        cells[self.row + Cell.TIGHT] = 0
        self._chunk = min(2 * self._chunk, _LARGEST_CHUNK)
        return min(amount * (self._chunk - 1), share)

    def changed(self) -> None:
        """The limit is another now."""
        self.put_back()

    def _hold(self, amount: int) -> None:
        """Others are to see what is at hand, or they would take it for spent."""
        self._cells[self._at + HELD] = amount
        if (amount or self.left) and not self.is_watched:
            self.is_watched = True
            self.watch(self)


def _nobody(pocket: Pocket) -> None:
    """Nobody looks after it."""


class PoolPocket(Pocket):
    """Of an allowance that is given back, or settled for good."""

    __slots__ = ()

    def bind(self) -> None:
        """Know the row."""
        super().bind()
        self._till.cells[self.row + Cell.STAMP] = self._clock.monotonic_ns()

    def take(self, amount: int, free: int) -> None:
        """Have an amount at hand that is free, and some more for calls to come."""
        more = self._more(amount, free)
        self._hold(self.left + more)
        self._cells[self._at + TAKEN] += amount + more
        self.left += amount + more

    def put_back(self) -> None:
        """Have nothing at hand any more."""
        left, self.left = self.left, 0
        self._cells[self._at + TAKEN] -= left
        self._hold(0)

    def finds_more(self, amount: int) -> bool:
        """Whether dead workers leave enough behind."""
        return self._till.bury(self._clock.monotonic_ns()) and self.free() >= amount

    def _return(self, amount: int) -> None:
        """What a call gives back is at hand for the next, or there for all where little is left."""
        self.left += amount
        if self._is_exact:
            # Without the lock: what a column has taken may become less at any time.
            self.put_back()
        elif self.left > self._cells[self._at + HELD]:
            self._hold(self.left)


class ConcurrencyPocket(PoolPocket):
    """Of calls that may be open at once."""

    __slots__ = ("_most",)
    kind = Kind.CONCURRENCY

    def __init__(self, till: Till, limit: Limit, words: str, clock: Clock) -> None:
        super().__init__(till, limit, words, clock)
        self._most = 0

    def free(self) -> int:
        """How many more calls may be open."""
        # A node's part of the limit; a node is never without one.
        self._most = max(
            self.limit.amount // self._till.cells[Head.NODES], min(self.limit.amount, 1)
        )
        return self._most - self._till.taken(self.row)

    def settle(self, amount: int, cost: int) -> None:
        """A call is open no more."""
        self._return(amount)

    def lacks(self, amount: int) -> ModelyardError | None:
        """Refused, unless others have room that they do not use."""
        if self.finds_more(amount) or (self._most > 0 and self.is_held_by_others()):
            return None
        error = Exhausted(
            "concurrency_exceeded",
            f"{self._most} calls are open, which is the limit {self.limit.id}; wait for one to end",
            retry_after_s=1.0,
        )
        error.headroom = Headroom(limit=self._most, remaining=0, unit="call", resets_s=None)
        return error


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


_POCKETS: Final = {
    "quota": QuotaPocket,
    "rate": RatePocket,
    "concurrency": ConcurrencyPocket,
}


def row_key(words: str, period: str) -> str:
    """What the row of a quota's subject in a period is found by."""
    return f"{words}\x1e{period}"


def make_pocket(till: Till, limit: Limit, words: str, clock: Clock) -> Pocket:
    """An empty pocket for a subject of a limit."""
    return _POCKETS[limit.kind](till, limit, words, clock)
