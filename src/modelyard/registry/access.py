"""What a gate goes by, read whole, and the one number that tells whether it has changed."""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, or_, select, update

from modelyard.core.errors import Invalid
from modelyard.core.identity import VERBS, Actor, Role, Scope, Verb
from modelyard.core.limits import Limit, LimitKind, Period
from modelyard.core.names import check_pattern
from modelyard.core.policy import NO_POLICY, Policy
from modelyard.core.rules import IdentityMapping, Key, Rules, Tenant
from modelyard.core.usage import Tariff, Unit
from modelyard.registry.auditing import write_audit
from modelyard.registry.tables import (
    access_sequence,
    keys,
    limits,
    mappings,
    policy,
    tariffs,
    tenants,
)

_REMEMBERED: Final = datetime.timedelta(days=7)
"""How long a dead key stays among the rules: unknown and dead get the same answer in the end."""
_MOST_PATTERNS: Final = 100


def bump(connection: Connection) -> None:
    """Say that something has changed; within the transaction that changes it."""
    connection.execute(update(access_sequence).values(number=access_sequence.c.number + 1))


def note_change(
    connection: Connection,
    action: str,
    *,
    kind: str,
    subject: str,
    before: object,
    after: object,
    actor: str | Actor,
    reason: str,
) -> None:
    """Say what was changed of what a gate goes by: to the audit, and to whoever follows the rules.

    `before` and `after` are records or mappings, None where there was or is nothing.
    """
    bump(connection)
    write_audit(
        connection,
        action=action,
        actor=actor,
        kind=kind,
        subject=subject,
        reason=reason,
        before=None if before is None else msgspec.to_builtins(before),
        after=None if after is None else msgspec.to_builtins(after),
    )


def read_rules(connection: Connection, known: int | None = None) -> Rules | None:
    """Everything, or None where its sequence is the one that is known: one cheap look."""
    sequence = connection.execute(select(access_sequence.c.number)).scalar_one()
    if sequence == known:
        return None
    return Rules(
        sequence=sequence,
        tenants={each.name: each for each in list_tenants(connection)},
        keys={each.id: each for each in _remembered_keys(connection)},
        mappings=tuple(list_mappings(connection)),
        limits=tuple(map(to_limit, connection.execute(select(limits).order_by(limits.c.id)).all())),
        tariffs=tuple(
            map(to_tariff, connection.execute(select(tariffs).order_by(tariffs.c.models)).all())
        ),
        policy=_read_policy(connection),
    )


def _read_policy(connection: Connection) -> Policy:
    document = connection.execute(select(policy.c.document)).scalar()
    return NO_POLICY if document is None else msgspec.convert(document, Policy)


def list_tenants(connection: Connection) -> list[Tenant]:
    """Every tenant that was not removed, by name."""
    rows = connection.execute(
        select(tenants).where(tenants.c.removed.is_(None)).order_by(tenants.c.name)
    )
    return [to_tenant(row) for row in rows]


def list_mappings(connection: Connection) -> list[IdentityMapping]:
    """Every identity mapping, in the order in which they were made."""
    rows = connection.execute(select(mappings).order_by(mappings.c.number))
    return [to_mapping(row) for row in rows]


def _remembered_keys(connection: Connection) -> list[Key]:
    since = now() - _REMEMBERED
    rows = connection.execute(
        select(keys).where(
            or_(keys.c.expires.is_(None), keys.c.expires > since),
            or_(keys.c.revoked.is_(None), keys.c.revoked > since),
        )
    )
    return [to_key(row) for row in rows]


def to_tenant(row: Row[Any]) -> Tenant:
    """A row of `tenants`."""
    return Tenant(name=row.name, models=tuple(row.models))


def to_key(row: Row[Any]) -> Key:
    """A row of `keys`."""
    return Key(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        role=Role(row.role),
        scope=_to_scope(row),
        salt=row.salt,
        digest=row.digest,
        created_at=row.created.timestamp(),
        expires_at=_seconds(row.expires),
        revoked_at=_seconds(row.revoked),
        replaces=row.replaces,
    )


def to_mapping(row: Row[Any]) -> IdentityMapping:
    """A row of `identity_mappings`."""
    return IdentityMapping(
        id=row.id,
        source=row.source,
        claims=tuple((claim, value) for claim, value in row.claims),
        role=Role(row.role),
        scope=_to_scope(row),
        tenant=row.tenant,
        tenant_claim=row.tenant_claim,
    )


def to_limit(row: Row[Any]) -> Limit:
    """A row of `limits`."""
    return Limit(
        id=row.id,
        kind=LimitKind(row.kind),
        amount=row.amount,
        unit=row.unit,
        tenant=row.tenant,
        key=row.key,
        models=row.models,
        per=tuple(row.per),
        period=Period(row.period),
        burst=row.burst,
    )


def to_tariff(row: Row[Any]) -> Tariff:
    """A row of `tariffs`."""
    return Tariff(models=row.models, unit=Unit(row.unit), nano=row.nano, currency=row.currency)


def _to_scope(row: Row[Any]) -> Scope:
    verbs = None if row.verbs is None else frozenset(map(Verb, row.verbs))
    return Scope(models=tuple(row.models), verbs=verbs)


def _seconds(moment: datetime.datetime | None) -> float | None:
    return None if moment is None else moment.timestamp()


def scope_columns(scope: Scope) -> dict[str, Any]:
    """A scope as the columns `models` and `verbs`."""
    verbs = None if scope.verbs is None else sorted(scope.verbs)
    return {"models": list(scope.models), "verbs": verbs}


def check_role(role: str) -> Role:
    """The role of that name."""
    try:
        return Role(role)
    except ValueError:
        raise Invalid(
            "bad_role", f"'{role:.40}' is no role; there are {', '.join(Role)}", field="role"
        ) from None


def check_scope(role: Role, models: Sequence[str], verbs: Iterable[str] | None) -> Scope:
    """A scope within a role; raises `Invalid` for verbs that the role has not."""
    return Scope(models=check_patterns(models), verbs=_check_verbs(role, verbs))


def check_patterns(models: Sequence[str]) -> tuple[str, ...]:
    """The patterns themselves, at least one."""
    if not 0 < len(models) <= _MOST_PATTERNS:
        raise Invalid(
            "bad_pattern", f"give 1 to {_MOST_PATTERNS} patterns of models", field="models"
        )
    return tuple(map(check_pattern, models))


def _check_verbs(role: Role, verbs: Iterable[str] | None) -> frozenset[Verb] | None:
    if verbs is None:
        return None
    chosen = set(verbs)
    if not chosen or not chosen <= VERBS[role]:
        raise Invalid(
            "bad_verbs",
            f"{', '.join(sorted(chosen - VERBS[role])) or 'nothing'} is not what a {role} may; "
            f"choose of {', '.join(sorted(VERBS[role]))}",
            field="verbs",
        )
    return frozenset(map(Verb, chosen))


def now() -> datetime.datetime:
    """This moment."""
    return datetime.datetime.now(datetime.UTC)
