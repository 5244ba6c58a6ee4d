"""Pockets: what one worker has of a subject's allowance at hand, so that most calls ask nobody.

A pocket takes a chunk from the till, spends it call by call, and gives back what it has not used a
moment later. Where little is left it takes no more than the call at hand needs. Where a call finds
nothing, and others have chunks, the row becomes *tight*: they give theirs back, and only when
nobody has one is the call refused. So chunks strand nothing, and no sum exceeds its limit.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from modelyard.core.errors import ModelyardError
from modelyard.core.limits import Limit
from modelyard.gateway.limits.till import HELD, TAKEN, Cell, Kind, Till

NEVER_NS: Final = 1 << 62
_LARGEST_CHUNK: Final = 4096
"""How many calls' worth a worker takes at most at once."""
_LEAST_SHARE: Final = 8
"""A worker's share of what is left, in calls, below which it takes for one call at a time."""


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
        "_held",
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
        self._held = 0
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
        self._held = self._cells[self._at + HELD]
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
        self._cells[self._at + HELD] = self._held = amount
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
        elif self.left > self._held:
            self._hold(self.left)
