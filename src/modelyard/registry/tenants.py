"""Tenants in SQL."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from modelyard.core.errors import Conflict, NotFound
from modelyard.core.identity import DEFAULT_TENANT, EVERY_MODEL, Actor
from modelyard.core.names import check_name
from modelyard.core.rules import Tenant
from modelyard.registry.access import check_patterns, list_tenants, note_change, now, to_tenant
from modelyard.registry.database import Database
from modelyard.registry.tables import keys, tenants


class TenantBook:
    """The tenants of a registry. May be used from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> "list[Tenant]":
        """Every tenant, by name."""
        with self._database.read() as connection:
            return list_tenants(connection)

    def get(self, name: str) -> Tenant:
        """That tenant; raises `NotFound`."""
        with self._database.read() as connection:
            return find_tenant(connection, name)

    def create(
        self,
        name: str,
        *,
        models: Sequence[str] = EVERY_MODEL,
        actor: str | Actor,
        reason: str = "",
    ) -> Tenant:
        """Make a tenant that sees the models of these patterns; raises `Conflict`.

        One of a name that was removed before is the same tenant again.
        """
        tenant = Tenant(name=check_name(name, "tenant"), models=check_patterns(models))
        with self._database.write() as connection:
            row = _find(connection, name)
            if row is None:
                connection.execute(
                    insert(tenants).values(name=name, models=list(tenant.models), created=now())
                )
            elif row.removed is None:
                raise Conflict(
                    "tenant_exists", f"there is a tenant '{name}' already", field="tenant"
                )
            else:
                _set(connection, name, models=list(tenant.models), removed=None)
            _note(connection, "tenant_created", None, tenant, actor, reason)
        return tenant

    def set(
        self, name: str, *, models: Sequence[str], actor: str | Actor, reason: str = ""
    ) -> Tenant:
        """Let a tenant see the models of other patterns; raises `NotFound`."""
        tenant = Tenant(name=name, models=check_patterns(models))
        with self._database.write() as connection:
            before = find_tenant(connection, name)
            if before != tenant:
                _set(connection, name, models=list(tenant.models))
                _note(connection, "tenant_changed", before, tenant, actor, reason)
        return tenant

    def remove(self, name: str, *, actor: str | Actor, reason: str = "") -> None:
        """Take a tenant away; raises `Conflict` while any of its keys is good."""
        if name == DEFAULT_TENANT:
            raise Conflict(
                "default_tenant", f"every home has the tenant '{name}'; it stays", field="tenant"
            )
        with self._database.write() as connection:
            before = find_tenant(connection, name)
            live = connection.execute(
                select(keys.c.id).where(
                    keys.c.tenant == name,
                    keys.c.revoked.is_(None),
                    or_(keys.c.expires.is_(None), keys.c.expires > now()),
                )
            ).scalars()
            if found := sorted(live):
                raise Conflict(
                    "tenant_in_use",
                    f"'{name}' has keys that are good: {', '.join(found[:5])}; revoke them first",
                    field="tenant",
                )
            _set(connection, name, removed=now())
            _note(connection, "tenant_removed", before, None, actor, reason)


def find_tenant(connection: Connection, name: str) -> Tenant:
    """That tenant; raises `NotFound`."""
    row = _find(connection, name)
    if row is None or row.removed is not None:
        there = ", ".join(each.name for each in list_tenants(connection)[:10])
        raise NotFound(
            "unknown_tenant", f"there is no tenant '{name:.140}'; there is {there}", field="tenant"
        )
    return to_tenant(row)


def _find(connection: Connection, name: str) -> Row[Any] | None:
    return connection.execute(select(tenants).where(tenants.c.name == name)).one_or_none()


def _set(connection: Connection, name: str, **values: Any) -> None:
    connection.execute(update(tenants).where(tenants.c.name == name).values(**values))


def _note(
    connection: Connection,
    action: str,
    before: Tenant | None,
    after: Tenant | None,
    actor: str | Actor,
    reason: str,
) -> None:
    subject = after or before
    assert subject is not None, "something was or is there"  # noqa: S101
    note_change(
        connection,
        action,
        kind="tenant",
        subject=subject.name,
        before=None if before is None else {"models": before.models},
        after=None if after is None else {"models": after.models},
        actor=actor,
        reason=reason,
    )
