"""Who may do what: keys, tenants, and identities that others vouch for."""

from dataclasses import dataclass, field

from modelyard.core.administration.operation import USUAL_PAGE, Page, Request, operation
from modelyard.core.identity import DEFAULT_TENANT, EVERY_MODEL, Role, Verb
from modelyard.core.records import IssuedKey, KeyRecord
from modelyard.core.rules import IdentityMapping, Tenant


@operation("GET", "/keys", Verb.ADMIN, tag="keys")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListKeys(Request[Page[KeyRecord]]):
    """Keys, oldest first, or those of a tenant; never their secrets."""

    tenant: str = ""
    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("GET", "/keys/{id}", Verb.ADMIN, tag="keys")
@dataclass(frozen=True, slots=True, kw_only=True)
class GetKey(Request[KeyRecord]):
    """All that is known of a key."""

    id: str


@operation(
    "POST",
    "/keys",
    Verb.ADMIN,
    tag="keys",
    status=201,
    is_secret=True,
    location="/keys/{record[id]}",
)
@dataclass(frozen=True, slots=True, kw_only=True)
class CreateKey(Request[IssuedKey]):
    """Make a key; its text is in this answer and never to be had again.

    It lives for `lifetime_s` seconds, or for ever. Nobody gives more than they have.
    """

    name: str
    tenant: str = DEFAULT_TENANT
    role: str = field(default=Role.CALLER, metadata={"enum": tuple(Role)})
    models: tuple[str, ...] = EVERY_MODEL
    verbs: tuple[str, ...] | None = None
    lifetime_s: float | None = None
    reason: str = ""


@operation(
    "POST",
    "/keys/{id}/rotate",
    Verb.ADMIN,
    tag="keys",
    status=201,
    is_secret=True,
    location="/keys/{record[id]}",
)
@dataclass(frozen=True, slots=True, kw_only=True)
class RotateKey(Request[IssuedKey]):
    """Make a key like this one, which itself goes on for `overlap_s` seconds."""

    id: str
    overlap_s: float = 0.0
    reason: str = ""


@operation("POST", "/keys/{id}/revoke", Verb.ADMIN, tag="keys", guards=GetKey)
@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeKey(Request[KeyRecord]):
    """Let a key be good no longer; servers follow within a second."""

    id: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What is there no longer."""

    removed: str


@operation("GET", "/tenants", Verb.ADMIN, tag="tenants")
@dataclass(frozen=True, slots=True, kw_only=True)
class ListTenants(Request[Page[Tenant]]):
    """Tenants by name, and the models that each may see."""

    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("GET", "/tenants/{name}", Verb.ADMIN, tag="tenants")
@dataclass(frozen=True, slots=True, kw_only=True)
class GetTenant(Request[Tenant]):
    """One tenant."""

    name: str


@operation(
    "POST",
    "/tenants",
    Verb.ADMIN,
    tag="tenants",
    is_global=True,
    status=201,
    location="/tenants/{name}",
)
@dataclass(frozen=True, slots=True, kw_only=True)
class CreateTenant(Request[Tenant]):
    """Make a tenant; `models` are the patterns of what it may see."""

    name: str
    models: tuple[str, ...] = EVERY_MODEL
    reason: str = ""


@operation("PUT", "/tenants/{name}", Verb.ADMIN, tag="tenants", is_global=True, guards=GetTenant)
@dataclass(frozen=True, slots=True, kw_only=True)
class SetTenant(Request[Tenant]):
    """Let a tenant see other models."""

    name: str
    models: tuple[str, ...]
    reason: str = ""


@operation("DELETE", "/tenants/{name}", Verb.ADMIN, tag="tenants", is_global=True, guards=GetTenant)
@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveTenant(Request[Removed]):
    """Take a tenant away that has no good keys any more."""

    name: str
    reason: str = ""


@operation("GET", "/identities", Verb.ADMIN, tag="identities", is_global=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class ListIdentities(Request[Page[IdentityMapping]]):
    """Who others vouch for: mappings of claims to tenant, role and scope, by id."""

    limit: int = USUAL_PAGE
    cursor: str = ""


@operation("POST", "/identities", Verb.ADMIN, tag="identities", is_global=True, status=201)
@dataclass(frozen=True, slots=True, kw_only=True)
class AddIdentity(Request[IdentityMapping]):
    """Let whoever has these claims in.

    `source` is an issuer's URL or `certificate`; of a certificate the claims are `subject`, `name`
    and `sha256`.
    """

    source: str
    claims: tuple[tuple[str, str], ...]
    role: str = field(default=Role.CALLER, metadata={"enum": tuple(Role)})
    models: tuple[str, ...] = EVERY_MODEL
    verbs: tuple[str, ...] | None = None
    tenant: str = ""
    tenant_claim: str = ""
    reason: str = ""


@operation("DELETE", "/identities/{id}", Verb.ADMIN, tag="identities", is_global=True)
@dataclass(frozen=True, slots=True, kw_only=True)
class RemoveIdentity(Request[Removed]):
    """Take a mapping away; servers follow within a second."""

    id: str
    reason: str = ""
