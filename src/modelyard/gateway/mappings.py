"""Whom another authority vouches for, as mappings say: a certificate's owner, a token's subject."""

from collections.abc import Mapping

from modelyard.core.identity import Certificate, Principal
from modelyard.core.rules import IdentityMapping, Rules

CERTIFICATE = "certificate"
"""The source of mappings of client certificates."""


def principal_of(
    rules: Rules,
    source: str,
    claims: Mapping[str, object],
    *,
    key: str,
    name: str,
    expires_at: float | None = None,
) -> Principal | None:
    """Who has these claims by that source; None where no mapping knows, or not its tenant.

    Of several mappings that fit, the one that asks for most claims holds, and of those the first.
    """
    fitting = [
        each for each in rules.mappings if each.source == source and _fits(each.claims, claims)
    ]
    if not fitting:
        return None
    mapping = max(fitting, key=lambda each: len(each.claims))
    tenant = rules.tenants.get(_tenant(mapping, claims))
    if tenant is None:
        return None
    return Principal(
        tenant=tenant.name,
        key=key,
        name=name,
        role=mapping.role,
        scope=mapping.scope,
        tenant_models=tenant.models,
        expires_at=expires_at,
    )


def certificate_principal(rules: Rules, certificate: Certificate) -> Principal | None:
    """Whose certificate it is; None where no mapping knows it."""
    return principal_of(
        rules,
        CERTIFICATE,
        {
            "subject": certificate.subject,
            "sha256": certificate.sha256,
            "name": list(certificate.names),
        },
        key=f"cert:{certificate.sha256[:16]}",
        name=certificate.subject,
        expires_at=certificate.expires_at,
    )


def _fits(wanted: tuple[tuple[str, str], ...], claims: Mapping[str, object]) -> bool:
    # Without a claim it would fit everybody whom the source has ever vouched for.
    return bool(wanted) and all(_has(claims.get(claim), value) for claim, value in wanted)


def _has(claim: object, value: str) -> bool:
    if isinstance(claim, list | tuple):
        return value in claim
    return claim == value


def _tenant(mapping: IdentityMapping, claims: Mapping[str, object]) -> str:
    if not mapping.tenant_claim:
        return mapping.tenant
    claimed = claims.get(mapping.tenant_claim)
    return claimed if isinstance(claimed, str) else ""
