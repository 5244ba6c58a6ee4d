"""What a call is measured by: units, amounts, prices, and the event that it leaves behind."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from modelyard.core.call import Call, Outcome

NANO: Final = 1_000_000_000
"""Money is counted in billionths of its currency, as whole numbers."""


_OK: Final = Outcome.OK
_LEFT: Final = (Outcome.CANCELLED, Outcome.CLIENT_GONE)


class Unit(StrEnum):
    """What is counted. Amounts are whole numbers: of seconds, microseconds."""

    REQUEST = "request"
    ROW = "row"
    TOKEN = "token"  # noqa: S105 - a unit
    SECOND = "second"
    BYTE = "byte"


STEPS: Final[dict[Unit, int]] = dict.fromkeys(Unit, 1) | {Unit.SECOND: 1_000_000}
"""How many counted steps one unit has."""


class Known(StrEnum):
    """How an amount was found out."""

    COUNTED = "counted"
    ENGINE = "engine"
    ESTIMATED = "estimated"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """How the models of a name pattern are metered and priced.

    `nano` is the price of one unit in billionths of `currency`. Of several tariffs that fit a model
    the one with the longest pattern holds.
    """

    models: str
    unit: Unit = Unit.REQUEST
    nano: int = 0
    currency: str = "EUR"


DEFAULT_TARIFF: Final = Tariff(models="*")


def input_bytes(call: Call) -> int:
    """The bytes of a call's input arrays."""
    return sum(array.nbytes for array in call.inputs.values())


def amount_before(call: Call, unit: Unit) -> int:
    """What a call will cost as far as can be known before it runs; 0 where nothing can."""
    match unit:
        case Unit.REQUEST:
            return 1
        case Unit.ROW:
            return call.rows
        case Unit.BYTE:
            return input_bytes(call)
        case Unit.SECOND | Unit.TOKEN:
            return 0


def amount_after(call: Call, unit: Unit) -> int:
    """What a call that has ended well has cost.

    `second` is the wall time from the call's arrival to its end, its wait included. `token` needs
    an engine, which says so itself.
    """
    if unit is Unit.SECOND:
        return max((call.ended_ns - call.started_ns) // 1000, 0)
    return amount_before(call, unit)


def billable(call: Call, unit: Unit) -> int:
    """What an ended call is charged for: its metering and its quotas go by this one number.

    An answer costs what it has cost. A call that was refused, failed or ran out of time costs
    nothing. Of one whose caller cancelled it or went away, what had begun to run is charged, as
    nobody should have work done for free by hanging up; while it still waited, it costs nothing.
    """
    if call.outcome is _OK or (call.has_run and call.outcome in _LEFT):
        return amount_after(call, unit)
    return 0


def cost_nano(amount: int, tariff: Tariff) -> int:
    """The price of an amount, rounded down to a billionth."""
    return amount * tariff.nano // STEPS[tariff.unit]
