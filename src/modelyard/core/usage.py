"""What a call is measured by: units, amounts, prices, and the event that it leaves behind."""

import datetime
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from modelyard.core.call import Call, Outcome
from modelyard.core.identity import matches

if TYPE_CHECKING:
    from modelyard.core.datatypes import Array

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


def tariff_of(model: str, tariffs: Iterable[Tariff]) -> Tariff:
    """The tariff that holds for a model: of those that fit, the one with the longest pattern."""
    fit = [tariff for tariff in tariffs if matches(model, (tariff.models,))]
    return max(fit, key=lambda tariff: len(tariff.models), default=DEFAULT_TARIFF)


def input_bytes(call: Call) -> int:
    """The bytes of a call's input arrays; of text, those of its UTF-8."""
    return sum(
        _text_bytes(array) if array.dtype.kind == "O" else array.nbytes
        for array in call.inputs.values()
    )


def _text_bytes(texts: "Array") -> int:
    # The array itself holds only where each text lies.
    return sum(
        len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
        for text in texts.flat
    )


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


def money_text(nano: int) -> str:
    """An amount of money as people write it, to the last place that counts: `0.0004`, `12.50`."""
    whole, part = divmod(nano, NANO)
    return f"{whole}.{f'{part:09d}'.rstrip('0').ljust(2, '0')}"


def amount_text(amount: int, unit: Unit) -> str:
    """An amount in its unit: `1.5` seconds, `12` rows."""
    whole, part = divmod(amount, STEPS[unit])
    return f"{whole}.{part:06d}".rstrip("0") if part else str(whole)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a call is metered as: for whom, of which version, in which unit, at which price."""

    tenant: str
    key: str
    model: str
    version: int
    unit: Unit
    nano: int
    currency: str

    @property
    def tariff(self) -> Tariff:
        """The price that it carries."""
        return Tariff(models=self.model, unit=self.unit, nano=self.nano, currency=self.currency)


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEvent:
    """One call, as it was metered. `amount` is counted in the unit's steps, `cost` in billionths.

    What a call that did not end well is charged for, `billable` says.
    """

    call: str
    subject: Subject
    outcome: Outcome
    known: Known
    arrived: datetime.datetime
    took_us: int
    rows: int
    amount: int
    cost: int


GROUPS: Final = ("tenant", "key", "model", "version", "day", "hour", "outcome", "known")
"""What usage can be added up by. Unit and currency always stay apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageLine:
    """Usage added up; what it was not grouped by is None. `ok` calls were answered."""

    tenant: str | None = None
    key: str | None = None
    model: str | None = None
    version: int | None = None
    day: datetime.datetime | None = None
    hour: datetime.datetime | None = None
    outcome: Outcome | None = None
    known: Known | None = None
    unit: Unit
    currency: str
    calls: int
    ok: int
    rows: int
    amount: int
    cost: int
    took_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unrecorded:
    """Calls of which nothing but their number could be kept, for want of room on the disk."""

    tenant: str
    key: str
    model: str
    version: int
    hour: datetime.datetime
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageReport:
    """Usage within a time, and what is missing from it.

    `damaged` events could be read no more; over all time, as nobody knows when they were.
    """

    lines: tuple[UsageLine, ...]
    unrecorded: tuple[Unrecorded, ...] = ()
    damaged: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Whether the spools on this machine and the database say the same.

    `copied` events are in the database, `waiting` ones only in a spool, and will come. Each of
    `differences` says what does not fit; without any the two agree.
    """

    spools: int
    batches: int
    copied: int
    compared: int
    waiting: int
    unrecorded: int
    damaged: int
    differences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolState:
    """How the spool of a server process stands.

    `waiting` events are not in the database yet. `trouble` says why events cannot be recorded, or
    not copied, at the moment.
    """

    waiting: int = 0
    unrecorded: int = 0
    trouble: str = ""


def merge_spools(states: Iterable[SpoolState]) -> SpoolState:
    """Those of several processes as one."""
    each = list(states)
    return SpoolState(
        waiting=sum(state.waiting for state in each),
        unrecorded=sum(state.unrecorded for state in each),
        trouble="; ".join(sorted({state.trouble for state in each if state.trouble})),
    )
