"""Concurrency: calls that are open at once."""

from modelyard.core.errors import Exhausted, ModelyardError
from modelyard.core.limits import Headroom, Limit
from modelyard.gateway.limits.pockets import Clock, PoolPocket
from modelyard.gateway.limits.till import Head, Kind, Till


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

    def spend(self, amount: int) -> None:
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
