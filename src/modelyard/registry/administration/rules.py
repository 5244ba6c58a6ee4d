"""The policy and the tariffs."""

from modelyard.core.administration import rules as ask
from modelyard.core.administration.access import Removed
from modelyard.core.policy import PolicyVersion
from modelyard.core.usage import Tariff
from modelyard.registry.administration.office import Office, perform


@perform.register
def get_policy(request: ask.GetPolicy, office: Office) -> PolicyVersion:
    """The policy in force."""
    return office.registry.policies.get()


@perform.register
def set_policy(request: ask.SetPolicy, office: Office) -> PolicyVersion:
    """Another policy."""
    return office.registry.policies.set(
        request.policy, actor=office.actor, reason=request.reason, expected=request.expected
    )


@perform.register
def list_tariffs(request: ask.ListTariffs, office: Office) -> tuple[Tariff, ...]:
    """All of them; there are few."""
    return tuple(office.registry.tariffs.list())


@perform.register
def set_tariff(request: ask.SetTariff, office: Office) -> Tariff:
    """Another tariff."""
    return office.registry.tariffs.set(
        request.models,
        unit=request.unit,
        price=request.price,
        currency=request.currency,
        actor=office.actor,
        reason=request.reason,
    )


@perform.register
def remove_tariff(request: ask.RemoveTariff, office: Office) -> Removed:
    """One tariff less."""
    office.registry.tariffs.remove(request.models, actor=office.actor, reason=request.reason)
    return Removed(removed=request.models)
