"""Limits: how much a tenant, a key or everybody may call a model."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from modelyard.core.identity import Principal, matches
from modelyard.core.usage import STEPS, Unit

MONEY: Final = "money"
"""What a quota may be counted in besides units: billionths of the tariff's currency."""


class LimitKind(StrEnum):
    """What is limited."""

    RATE = "rate"
    """Units a minute, by a token bucket that holds `burst`."""
    QUOTA = "quota"
    """Units in all within a period; never exceeded, by however many workers and nodes."""
    CONCURRENCY = "concurrency"
    """Calls that are open at once."""


class Period(StrEnum):
    """After which time a quota begins anew, by the UTC calendar."""

    HOUR = "hour"
    DAY = "day"
    MONTH = "month"
    TOTAL = "total"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A limit on those calls that fit it.

    `tenant` and `key` name one or are "" for every one, `models` is a shell pattern. It is counted
    apart for each tenant, key and model where `per` names them (`tenant`, `key`, `model`), and
    together otherwise. `amount` is in `unit`s: a minute for a rate, a period for a quota, calls for
    a concurrency; in billionths of a currency where the unit is `money`.
    """

    id: str
    kind: LimitKind
    amount: int
    unit: str = Unit.REQUEST
    tenant: str = ""
    key: str = ""
    models: str = "*"
    per: tuple[str, ...] = ()
    period: Period = Period.TOTAL
    burst: int = 0
    """The most that a rate lets through at once; 0 means a minute's amount."""

    @property
    def step(self) -> int:
        """How many counted steps one of its units has; money is counted in steps."""
        return STEPS[Unit(self.unit)] if self.unit in STEPS else 1

    def fits(self, principal: Principal, model: str) -> bool:
        """Whether it holds for somebody's calls to a model."""
        return (
            self.tenant in ("", principal.tenant)
            and self.key in ("", principal.key)
            and matches(model, (self.models,))
        )

    def subject(self, principal: Principal, model: str) -> str:
        """What its count is kept under: calls with the same subject share it."""
        parts = {"tenant": principal.tenant, "key": principal.key, "model": model}
        return "\x1f".join(
            (self.id, *(parts[name] for name in ("tenant", "key", "model") if name in self.per))
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a quota stands for one of its subjects, in its present period, as the nodes have said.

    `leased` is what nodes hold and have not spent, `lost` the part of it that gone nodes hold: it
    counts as spent until they are back. `left` is what no node holds; below 0 it is overdrawn, as
    by calls whose cost nobody knew before.
    """

    limit: str
    period: str
    counted_for: dict[str, str]
    """Which tenant, key and model, where they are counted apart."""
    spent: int
    leased: int
    lost: int
    left: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Headroom:
    """How a limit stands, as a refused caller is told: `x-ratelimit-*`.

    `resets_s` is after how many seconds it is whole again, None for never.
    """

    limit: int
    remaining: int
    unit: str
    resets_s: float | None = None
