"""Identity mappings in SQL: who somebody is whom an issuer or a certificate vouches for."""

import re
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from modelyard.core.errors import Invalid, NotFound
from modelyard.core.identity import EVERY_MODEL, Actor, Role
from modelyard.core.rules import IdentityMapping
from modelyard.gateway.credentials import new_id
from modelyard.gateway.mappings import CERTIFICATE
from modelyard.registry.access import (
    check_role,
    check_scope,
    list_mappings,
    note_change,
    scope_columns,
    to_mapping,
)
from modelyard.registry.database import Database
from modelyard.registry.tables import mappings
from modelyard.registry.tenants import find_tenant

_CERTIFICATE_CLAIMS: Final = ("subject", "name", "sha256")
_ISSUER: Final = re.compile(r"https?://[!-~]{1,500}")
_MOST_CLAIMS: Final = 32
_LONGEST_CLAIM: Final = 1024


class MappingBook:
    """The identity mappings of a registry. May be used from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> "list[IdentityMapping]":
        """Every mapping, in the order in which they were made."""
        with self._database.read() as connection:
            return list_mappings(connection)

    def add(
        self,
        *,
        source: str,
        claims: Sequence[tuple[str, str]],
        role: str = Role.CALLER,
        models: Sequence[str] = EVERY_MODEL,
        verbs: Iterable[str] | None = None,
        tenant: str = "",
        tenant_claim: str = "",
        actor: str | Actor,
        reason: str = "",
    ) -> IdentityMapping:
        """Say who somebody is whom `source` vouches for: an issuer's URL, or `certificate`.

        All `claims` must be there, of one that is a list a member. The tenant is `tenant`, or what
        the token's `tenant_claim` says.
        """
        _check_claims(source, claims)
        _check_tenant(source, tenant, tenant_claim)
        checked = check_role(role)
        mapping = IdentityMapping(
            id=new_id(),
            source=source,
            claims=tuple((claim, value) for claim, value in claims),
            role=checked,
            scope=check_scope(checked, models, verbs),
            tenant=tenant,
            tenant_claim=tenant_claim,
        )
        with self._database.write() as connection:
            if tenant:
                find_tenant(connection, tenant)
            connection.execute(insert(mappings).values(**_columns(mapping)))
            _note(connection, "mapping_added", None, mapping, actor, reason)
        return mapping

    def remove(self, id: str, *, actor: str | Actor, reason: str = "") -> None:
        """Take a mapping away; raises `NotFound`."""
        with self._database.write() as connection:
            row = connection.execute(select(mappings).where(mappings.c.id == id)).one_or_none()
            if row is None:
                raise NotFound(
                    "unknown_mapping", f"there is no identity mapping '{id:.40}'", field="mapping"
                )
            connection.execute(delete(mappings).where(mappings.c.id == id))
            _note(connection, "mapping_removed", to_mapping(row), None, actor, reason)


def _columns(mapping: IdentityMapping) -> dict[str, Any]:
    return {
        "id": mapping.id,
        "source": mapping.source,
        "claims": [list(claim) for claim in mapping.claims],
        "role": mapping.role,
        **scope_columns(mapping.scope),
        "tenant": mapping.tenant,
        "tenant_claim": mapping.tenant_claim,
    }


def _check_claims(source: str, claims: Sequence[tuple[str, str]]) -> None:
    if source != CERTIFICATE and _ISSUER.fullmatch(source) is None:
        raise Invalid("bad_source", "a source is an issuer's URL, or 'certificate'", field="source")
    if not 0 < len(claims) <= _MOST_CLAIMS:
        raise Invalid(
            "bad_claims",
            f"name 1 to {_MOST_CLAIMS} claims: without one it would fit everybody",
            field="claims",
        )
    for claim, value in claims:
        if not (0 < len(claim) <= _LONGEST_CLAIM and 0 < len(value) <= _LONGEST_CLAIM):
            raise Invalid(
                "bad_claims", "a claim has a name and a value, of 1,024 characters", field="claims"
            )
        if source == CERTIFICATE and claim not in _CERTIFICATE_CLAIMS:
            raise Invalid(
                "bad_claims",
                f"a certificate has no '{claim:.80}'; it has {', '.join(_CERTIFICATE_CLAIMS)}",
                field="claims",
            )


def _check_tenant(source: str, tenant: str, tenant_claim: str) -> None:
    if bool(tenant) == bool(tenant_claim) or (tenant_claim and source == CERTIFICATE):
        raise Invalid(
            "bad_tenant",
            "give the tenant, or, for an issuer's tokens, the claim that says it; not both",
            field="tenant",
        )


def _note(
    connection: Connection,
    action: str,
    before: IdentityMapping | None,
    after: IdentityMapping | None,
    actor: str | Actor,
    reason: str,
) -> None:
    subject = after or before
    assert subject is not None, "something was or is there"  # noqa: S101
    note_change(
        connection,
        action,
        kind="mapping",
        subject=subject.id,
        before=None if before is None else _columns(before),
        after=None if after is None else _columns(after),
        actor=actor,
        reason=reason,
    )
