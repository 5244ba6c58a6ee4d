"""Keys, tenants and identity mappings. Nobody gives more than they have."""

from collections.abc import Sequence

from modelyard.core.administration import access as ask
from modelyard.core.administration.operation import Page
from modelyard.core.identity import VERBS
from modelyard.core.records import IssuedKey, KeyRecord
from modelyard.core.rules import IdentityMapping, Tenant
from modelyard.registry.access import check_role, check_scope
from modelyard.registry.administration.office import Office, perform
from modelyard.registry.administration.paging import page_of


@perform.register
def list_keys(request: ask.ListKeys, office: Office) -> Page[KeyRecord]:
    """The keys of the tenants that who asks administers."""
    found = office.registry.keys.list(tenant=office.own_tenant(request.tenant) or None)
    return page_of(found, lambda key: f"{key.created.isoformat()} {key.id}", request)


@perform.register
def get_key(request: ask.GetKey, office: Office) -> KeyRecord:
    """One key."""
    return _reached(request.id, office)


@perform.register
def create_key(request: ask.CreateKey, office: Office) -> IssuedKey:
    """Make a key."""
    office.check_tenant(request.tenant)
    _check_given(office, request.role, request.verbs, request.models)
    return office.registry.keys.create(
        name=request.name,
        tenant=request.tenant,
        role=request.role,
        models=request.models,
        verbs=request.verbs,
        lifetime_s=request.lifetime_s,
        actor=office.actor,
        reason=request.reason,
    )


@perform.register
def rotate_key(request: ask.RotateKey, office: Office) -> IssuedKey:
    """Make another in its place."""
    _check_record(office, _reached(request.id, office))
    return office.registry.keys.rotate(
        request.id, overlap_s=request.overlap_s, actor=office.actor, reason=request.reason
    )


@perform.register
def revoke_key(request: ask.RevokeKey, office: Office) -> KeyRecord:
    """Let it be good no longer."""
    _check_record(office, _reached(request.id, office))
    return office.registry.keys.revoke(request.id, actor=office.actor, reason=request.reason)


@perform.register
def list_tenants(request: ask.ListTenants, office: Office) -> Page[Tenant]:
    """The tenants that who asks administers."""
    own = office.own_tenant("")
    found = (each for each in office.registry.tenants.list() if own in ("", each.name))
    return page_of(sorted(found, key=lambda each: each.name), lambda each: each.name, request)


@perform.register
def get_tenant(request: ask.GetTenant, office: Office) -> Tenant:
    """One tenant."""
    office.check_tenant(request.name)
    return office.registry.tenants.get(request.name)


@perform.register
def create_tenant(request: ask.CreateTenant, office: Office) -> Tenant:
    """Make a tenant."""
    return office.registry.tenants.create(
        request.name, models=request.models, actor=office.actor, reason=request.reason
    )


@perform.register
def set_tenant(request: ask.SetTenant, office: Office) -> Tenant:
    """Let it see other models."""
    return office.registry.tenants.set(
        request.name, models=request.models, actor=office.actor, reason=request.reason
    )


@perform.register
def remove_tenant(request: ask.RemoveTenant, office: Office) -> ask.Removed:
    """Take it away."""
    office.registry.tenants.remove(request.name, actor=office.actor, reason=request.reason)
    return ask.Removed(removed=request.name)


@perform.register
def list_identities(request: ask.ListIdentities, office: Office) -> Page[IdentityMapping]:
    """The mappings."""
    found = sorted(office.registry.mappings.list(), key=lambda each: each.id)
    return page_of(found, lambda each: each.id, request)


@perform.register
def add_identity(request: ask.AddIdentity, office: Office) -> IdentityMapping:
    """Let somebody in."""
    _check_given(office, request.role, request.verbs, request.models)
    return office.registry.mappings.add(
        source=request.source,
        claims=request.claims,
        role=request.role,
        models=request.models,
        verbs=request.verbs,
        tenant=request.tenant,
        tenant_claim=request.tenant_claim,
        actor=office.actor,
        reason=request.reason,
    )


@perform.register
def remove_identity(request: ask.RemoveIdentity, office: Office) -> ask.Removed:
    """Let them in no longer."""
    office.registry.mappings.remove(request.id, actor=office.actor, reason=request.reason)
    return ask.Removed(removed=request.id)


def _reached(id: str, office: Office) -> KeyRecord:
    """A key of a tenant that who asks administers."""
    key = office.registry.keys.get(id)
    office.check_tenant(key.tenant)
    return key


def _check_record(office: Office, key: KeyRecord) -> None:
    # Who rotates a key has it afterwards.
    _check_given(office, key.role, key.verbs, key.models)


def _check_given(
    office: Office, role: str, verbs: Sequence[str] | None, models: Sequence[str]
) -> None:
    """Raise `Denied` where a key of that role and scope could do more than who makes it."""
    who = office.principal
    if who is None:
        return
    checked = check_role(role)
    scope = check_scope(checked, models, verbs)
    for verb in VERBS[checked] if scope.verbs is None else VERBS[checked] & scope.verbs:
        who.check(verb)
    for pattern in scope.models:
        office.check_pattern(pattern)
