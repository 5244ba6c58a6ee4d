"""The servers of the home, and who asks."""

from collections.abc import Mapping
from typing import Any

from modelyard.core.administration import servers as ask
from modelyard.core.identity import EVERY_MODEL, VERBS, Role
from modelyard.registry.administration.office import Office, perform


@perform.register
def status(request: ask.Status, office: Office) -> tuple[Mapping[str, Any], ...]:
    """What they say of themselves."""
    return tuple(office.look())


@perform.register
def who_am_i(request: ask.WhoAmI, office: Office) -> ask.Identity:
    """The principal; on the machine itself its user, who may everything."""
    who = office.principal
    if who is None:
        return ask.Identity(
            name=office.actor.name,
            key=office.actor.key,
            tenant=office.actor.tenant,
            role=Role.ADMIN,
            verbs=tuple(sorted(VERBS[Role.ADMIN])),
            models=EVERY_MODEL,
        )
    return ask.Identity(
        name=who.name,
        key=who.key,
        tenant=who.tenant,
        role=who.role,
        verbs=tuple(sorted(verb for verb in VERBS[who.role] if who.may(verb))),
        models=who.scope.models,
    )
