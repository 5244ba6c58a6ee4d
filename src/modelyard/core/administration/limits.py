"""How much whom may call."""

from dataclasses import dataclass, field

from modelyard.core.administration.access import Removed
from modelyard.core.administration.operation import USUAL_PAGE, Page, Request, operation
from modelyard.core.identity import Verb
from modelyard.core.limits import MONEY, Limit, LimitKind, Period, Standing
from modelyard.core.usage import Unit


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitReport:
    """A limit, and how each count of it stands, as the servers said in the last seconds."""

    limit: Limit
    standings: tuple[Standing, ...] = ()


@operation("GET", "/limits", Verb.READ, tag="limits")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListLimits(Request[Page[LimitReport]]):
    """Limits, by id, and how quotas stand; one's own tenant's and those of everybody."""

    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("GET", "/limits/{id}", Verb.READ, tag="limits")
@dataclass(frozen=True, slots=True, kw_only=True)
class GetLimit(Request[Limit]):
    """One limit."""

    id: str


@operation(
    "POST",
    "/limits",
    Verb.ADMIN,
    tag="limits",
    is_global=True,
    status=201,
    location="/limits/{id}",
)
@dataclass(frozen=True, slots=True, kw_only=True)
class SetLimit(Request[Limit]):
    """Limit calls; where the same calls are limited so already, by this amount instead.

    `amount` is in units a minute for a rate, a period for a quota, at once for a concurrency.
    """

    kind: str = field(metadata={"enum": tuple(LimitKind)})
    amount: int
    unit: str = field(default=Unit.REQUEST, metadata={"enum": (*Unit, MONEY)})
    tenant: str = ""
    key: str = ""
    models: str = "*"
    per: tuple[str, ...] = ()
    period: str = field(default=Period.TOTAL, metadata={"enum": tuple(Period)})
    burst: int = 0
    reason: str = ""


@operation("DELETE", "/limits/{id}", Verb.ADMIN, tag="limits", is_global=True, guards=GetLimit)
@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveLimit(Request[Removed]):
    """Limit calls so no more."""

    id: str
    reason: str = ""
