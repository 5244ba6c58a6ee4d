"""What a gate goes by besides keys: the policy, and tariffs."""

from dataclasses import dataclass, field

from modelyard.core.administration.access import Removed
from modelyard.core.administration.operation import Request, operation
from modelyard.core.identity import Verb
from modelyard.core.policy import Policy, PolicyVersion
from modelyard.core.usage import Tariff, Unit


@operation("GET", "/policy", Verb.READ, tag="policy")
@dataclass(frozen=True, slots=True, kw_only=True)
class GetPolicy(Request[PolicyVersion]):
    """The policy in force, and its number."""


@operation(
    "PUT", "/policy", Verb.ADMIN, tag="policy", is_global=True, guards=GetPolicy, must_match=True
)
@dataclass(frozen=True, slots=True, kw_only=True)
class SetPolicy(Request[PolicyVersion]):
    """Put a policy in force as a whole.

    `expected` is the number that the change was made from, where it must still be that.
    """

    policy: Policy
    expected: int | None = None
    reason: str = ""


@operation("GET", "/tariffs", Verb.READ, tag="tariffs")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListTariffs(Request[tuple[Tariff, ...]]):
    """In which unit models are metered, and what one costs, by pattern."""


@operation("POST", "/tariffs", Verb.ADMIN, tag="tariffs", is_global=True, guards=ListTariffs)
@dataclass(frozen=True, slots=True, kw_only=True)
class SetTariff(Request[Tariff]):
    """Meter the models of a pattern in a unit, at a price a unit as a decimal text."""

    models: str
    unit: str = field(default=Unit.REQUEST, metadata={"enum": tuple(Unit)})
    price: str = "0"
    currency: str = "EUR"
    reason: str = ""


@operation("DELETE", "/tariffs/{models}", Verb.ADMIN, tag="tariffs", is_global=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveTariff(Request[Removed]):
    """Let the models of a pattern be metered by another tariff, or by request and for nothing."""

    models: str
    reason: str = ""
