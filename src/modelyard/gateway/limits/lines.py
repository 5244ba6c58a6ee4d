"""Lines: one limit, as it holds for one principal's calls to one model."""

from typing import Final

from modelyard.core.call import Call, Outcome
from modelyard.core.limits import MONEY, Limit, LimitKind
from modelyard.core.usage import (
    STEPS,
    Tariff,
    Unit,
    amount_after,
    amount_before,
    billable,
    cost_nano,
)
from modelyard.gateway.limits.concurrency import ConcurrencyPocket
from modelyard.gateway.limits.pockets import Clock, Pocket
from modelyard.gateway.limits.quotas import QuotaPocket
from modelyard.gateway.limits.rates import RatePocket
from modelyard.gateway.limits.till import Till

_OK: Final = Outcome.OK
_UNKNOWN_BEFORE: Final = (Unit.SECOND, Unit.TOKEN)
_POCKETS: Final[dict[LimitKind, type[Pocket]]] = {
    LimitKind.QUOTA: QuotaPocket,
    LimitKind.RATE: RatePocket,
    LimitKind.CONCURRENCY: ConcurrencyPocket,
}
_WEIGHT: Final = 8
"""Of so many calls the last counts as one, in the mean of what calls cost."""


class Line:
    """A limit: from which pocket a call takes, how much before it runs, and what it has cost.

    One that is not `is_settled` has nothing to do when a call has ended.
    """

    is_settled = True
    __slots__ = ("_mean", "_tariff", "pocket", "takes_one")

    def __init__(self, pocket: Pocket, tariff: Tariff) -> None:
        self.pocket = pocket
        # Whether a call of one row takes one.
        self.takes_one = pocket.limit.unit in (Unit.REQUEST, Unit.ROW)
        self._tariff = tariff
        self._mean = 0

    def before(self, call: Call) -> int:
        """What to set aside for a call."""
        return 1

    def settle(self, call: Call, amount: int, pocket: Pocket) -> None:
        """Charge what a call has cost to the pocket that it took the amount from."""


class ConcurrencyLine(Line):
    """Each call is one, while it is open."""

    __slots__ = ()

    def settle(self, call: Call, amount: int, pocket: Pocket) -> None:
        """Give it back."""
        pocket.settle(amount, 0)


class KnownRate(Line):
    """What a call takes is known before it runs, and not given back: a failed call is one too."""

    __slots__ = ("_unit",)
    is_settled = False

    def __init__(self, pocket: Pocket, tariff: Tariff) -> None:
        super().__init__(pocket, tariff)
        self._unit = Unit(pocket.limit.unit)

    def before(self, call: Call) -> int:
        """What it will cost."""
        return amount_before(call, self._unit)


class UnknownRate(KnownRate):
    """What a call takes is known when it has ended; until then it is as the last ones were."""

    __slots__ = ()
    is_settled = True

    def before(self, call: Call) -> int:
        """What calls cost in the mean."""
        return self._mean or STEPS[self._unit]

    def settle(self, call: Call, amount: int, pocket: Pocket) -> None:
        """Charge the truth, however the call ended."""
        cost = amount_after(call, self._unit)
        self._mean += (cost - self._mean) // _WEIGHT if self._mean else cost
        pocket.settle(amount, cost)


class Quota(Line):
    """Counted in a unit; only what is billable is charged."""

    __slots__ = ("_is_known", "_unit")

    def __init__(self, pocket: Pocket, tariff: Tariff) -> None:
        super().__init__(pocket, tariff)
        self._unit = self._unit_of(pocket.limit)
        self._is_known = self._unit not in _UNKNOWN_BEFORE

    def before(self, call: Call) -> int:
        """What it will cost, or what calls cost in the mean where nobody knows."""
        return amount_before(call, self._unit) if self._is_known else self._mean or 1

    def settle(self, call: Call, amount: int, pocket: Pocket) -> None:
        """Charge what is billable."""
        if self._is_known and call.outcome is _OK:
            pocket.spend(amount)
            return
        cost = billable(call, self._unit)
        if cost:
            self._mean += (cost - self._mean) // _WEIGHT if self._mean else cost
        pocket.settle(amount, self._charge(cost))

    def _charge(self, cost: int) -> int:
        """What is charged for a cost."""
        return cost

    def _unit_of(self, limit: Limit) -> Unit:
        return Unit(limit.unit)


class MoneyQuota(Quota):
    """Counted in money, by the tariff that holds for the model."""

    __slots__ = ()

    def before(self, call: Call) -> int:
        """The price of what it will cost."""
        return self._charge(super().before(call))

    def _charge(self, cost: int) -> int:
        return cost_nano(cost, self._tariff)

    def _unit_of(self, limit: Limit) -> Unit:
        return self._tariff.unit


def make_pocket(till: Till, limit: Limit, words: str, clock: Clock) -> Pocket:
    """An empty pocket for a subject of a limit."""
    return _POCKETS[limit.kind](till, limit, words, clock)


def make_line(pocket: Pocket, tariff: Tariff) -> Line:
    """The line of a pocket's limit."""
    limit = pocket.limit
    match limit.kind:
        case LimitKind.CONCURRENCY:
            return ConcurrencyLine(pocket, tariff)
        case LimitKind.RATE:
            kind = UnknownRate if limit.unit in _UNKNOWN_BEFORE else KnownRate
            return kind(pocket, tariff)
        case LimitKind.QUOTA:
            return MoneyQuota(pocket, tariff) if limit.unit == MONEY else Quota(pocket, tariff)
