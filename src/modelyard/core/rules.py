"""Everything a gate goes by, as the registry has it: one value, replaced as a whole."""

from dataclasses import dataclass, field

from modelyard.core.identity import EVERY_MODEL, WHOLE_SCOPE, Role, Scope
from modelyard.core.limits import Limit
from modelyard.core.policy import NO_POLICY, Policy
from modelyard.core.usage import Tariff


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """Whose keys, limits and usage belong together; `models` are the patterns of what it sees."""

    name: str
    models: tuple[str, ...] = EVERY_MODEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key as it is stored: never its secret, only `digest`, the SHA-256 of `salt` and secret.

    Moments are Unix seconds. One that was rotated goes on until `expires_at`; one that is
    `revoked_at` is dead everywhere within a second.
    """

    id: str
    tenant: str
    name: str
    role: Role
    scope: Scope = WHOLE_SCOPE
    salt: bytes = field(repr=False)
    digest: bytes = field(repr=False)
    created_at: float
    expires_at: float | None = None
    revoked_at: float | None = None
    replaces: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class IdentityMapping:
    """Who a caller is that another authority vouches for: an OIDC issuer, or a certificate's.

    All `claims` must be there (of a list, one of its members); what `tenant_claim` says is the
    tenant, where it is set, else `tenant`. Of a certificate `claims` are `subject`, `name` and
    `sha256`.
    """

    id: str
    source: str
    """An issuer's URL, or `certificate`."""
    claims: tuple[tuple[str, str], ...] = ()
    role: Role
    scope: Scope = WHOLE_SCOPE
    tenant: str = ""
    tenant_claim: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The whole of it. `sequence` grows with every change of any of it."""

    sequence: int = 0
    tenants: dict[str, Tenant] = field(default_factory=dict)
    keys: dict[str, Key] = field(default_factory=dict)
    mappings: tuple[IdentityMapping, ...] = ()
    limits: tuple[Limit, ...] = ()
    tariffs: tuple[Tariff, ...] = ()
    policy: Policy = NO_POLICY
