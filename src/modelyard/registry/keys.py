"""Keys in SQL: made here, and stored as salted digests."""

import datetime
from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Row, insert, select, update

from modelyard.core.errors import Conflict, Invalid, NotFound
from modelyard.core.identity import DEFAULT_TENANT, EVERY_MODEL, Actor, Role, Scope, Verb
from modelyard.core.records import IssuedKey, KeyRecord, KeyState
from modelyard.gateway.credentials import (
    Credential,
    digest,
    new_id,
    new_salt,
    new_secret,
    write_key,
)
from modelyard.registry.access import check_role, check_scope, note_change, now, scope_columns
from modelyard.registry.database import Database
from modelyard.registry.tables import keys
from modelyard.registry.tenants import find_tenant

_LONGEST_NAME: Final = 128
_LONGEST_LIFE_S: Final = 100 * 366 * 86_400.0
_FIRST: Final = "first"


class KeyBook:
    """The keys of a registry. May be used from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self, *, tenant: str | None = None) -> "list[KeyRecord]":
        """Every key that was ever made, oldest first, or those of a tenant."""
        query = select(keys).order_by(keys.c.created, keys.c.id)
        if tenant is not None:
            query = query.where(keys.c.tenant == tenant)
        with self._database.read() as connection:
            return [_to_record(row) for row in connection.execute(query)]

    def get(self, id: str) -> KeyRecord:
        """That key; raises `NotFound`."""
        with self._database.read() as connection:
            return _find(connection, id)

    def create(
        self,
        *,
        name: str,
        tenant: str = DEFAULT_TENANT,
        role: str = Role.CALLER,
        models: Sequence[str] = EVERY_MODEL,
        verbs: Iterable[str] | None = None,
        lifetime_s: float | None = None,
        actor: str | Actor,
        reason: str = "",
    ) -> IssuedKey:
        """Make a key that lives for so long, or for ever; its text is never to be had again."""
        _check_name(name)
        checked = check_role(role)
        scope = check_scope(checked, models, verbs)
        lifetime = _check_lifetime(lifetime_s)
        with self._database.write() as connection:
            find_tenant(connection, tenant)
            made = _make(connection, tenant, name, checked, scope, lifetime)
            _note(connection, "key_created", None, made.record, actor, reason)
            return made

    def create_first(self, *, actor: str | Actor) -> IssuedKey | None:
        """Make the key of a home's first administrator; None where one was ever made."""
        admins = select(keys.c.id).where(keys.c.role == Role.ADMIN).limit(1)
        with self._database.read() as connection:
            # Nearly always: no turn among the writers is waited for.
            if connection.execute(admins).first() is not None:
                return None
        with self._database.write() as connection:
            if connection.execute(admins).first() is not None:
                return None
            made = _make(connection, DEFAULT_TENANT, _FIRST, Role.ADMIN, Scope(), None)
            _note(connection, "key_created", None, made.record, actor, "the first start")
            return made

    def rotate(
        self, id: str, *, overlap_s: float = 0.0, actor: str | Actor, reason: str = ""
    ) -> IssuedKey:
        """Make a key like this one, which itself goes on for `overlap_s` seconds, and no longer.

        The new one lives as long as the old one was to live. Raises `NotFound`, and `Conflict` for
        a key that is dead or was rotated already.
        """
        if not 0.0 <= overlap_s <= _LONGEST_LIFE_S:
            raise Invalid("bad_overlap", "an overlap is 0 seconds or more", field="overlap_s")
        with self._database.write() as connection:
            old = _find(connection, id)
            _check_rotatable(connection, old)
            lifetime = None
            if old.expires is not None:
                lifetime = old.expires - old.created
            scope = check_scope(old.role, old.models, old.verbs)
            made = _make(connection, old.tenant, old.name, old.role, scope, lifetime, replaces=id)
            end = now() + datetime.timedelta(seconds=overlap_s)
            if old.expires is None or end < old.expires:
                _set(connection, id, expires=end)
            _note(connection, "key_rotated", old, _find(connection, id), actor, reason)
            _note(connection, "key_created", None, made.record, actor, reason)
            return made

    def revoke(self, id: str, *, actor: str | Actor, reason: str = "") -> KeyRecord:
        """Let a key be good no longer, anywhere, for good; raises `NotFound`."""
        with self._database.write() as connection:
            before = _find(connection, id)
            if before.revoked is not None:
                return before
            _set(connection, id, revoked=now())
            after = _find(connection, id)
            _note(connection, "key_revoked", before, after, actor, reason)
            return after


def _make(
    connection: Connection,
    tenant: str,
    name: str,
    role: Role,
    scope: Scope,
    lifetime: datetime.timedelta | None,
    replaces: str = "",
) -> IssuedKey:
    credential = Credential(new_id(), new_secret())
    salt = new_salt()
    created = now()
    connection.execute(
        insert(keys).values(
            id=credential.id,
            tenant=tenant,
            name=name,
            role=role,
            **scope_columns(scope),
            salt=salt,
            digest=digest(salt, credential.secret),
            created=created,
            expires=None if lifetime is None else created + lifetime,
            replaces=replaces,
        )
    )
    return IssuedKey(record=_find(connection, credential.id), text=write_key(credential))


def _find(connection: Connection, id: str) -> KeyRecord:
    row = connection.execute(select(keys).where(keys.c.id == id)).one_or_none()
    if row is None:
        # Somebody may have given a whole key here: it is not repeated.
        raise NotFound("unknown_key", "there is no key of that id; see 'keys list'", field="key")
    return _to_record(row)


def _to_record(row: Row[Any]) -> KeyRecord:
    state: KeyState = "good"
    if row.revoked is not None:
        state = "revoked"
    elif row.expires is not None and row.expires <= now():
        state = "expired"
    return KeyRecord(
        id=row.id,
        tenant=row.tenant,
        name=row.name,
        role=Role(row.role),
        models=tuple(row.models),
        verbs=None if row.verbs is None else tuple(map(Verb, row.verbs)),
        state=state,
        created=row.created,
        expires=row.expires,
        revoked=row.revoked,
        replaces=row.replaces,
    )


def _set(connection: Connection, id: str, **values: Any) -> None:
    connection.execute(update(keys).where(keys.c.id == id).values(**values))


def _check_rotatable(connection: Connection, key: KeyRecord) -> None:
    if key.state != "good":
        raise Conflict(
            "dead_key", f"the key '{key.id}' is {key.state}; make a new one", field="key"
        )
    successor = connection.execute(select(keys.c.id).where(keys.c.replaces == key.id)).scalar()
    if successor is not None:
        raise Conflict(
            "key_rotated",
            f"the key '{key.id}' was replaced by '{successor}'; rotate that one",
            field="key",
        )


def _check_name(name: str) -> None:
    if not 0 < len(name) <= _LONGEST_NAME or not name.isprintable():
        raise Invalid(
            "bad_name", f"a key's name is 1 to {_LONGEST_NAME} printable characters", field="name"
        )


def _check_lifetime(lifetime_s: float | None) -> datetime.timedelta | None:
    if lifetime_s is None:
        return None
    if not 0.0 < lifetime_s <= _LONGEST_LIFE_S:
        raise Invalid(
            "bad_lifetime", "a key lives for more than 0 s and at most a century", field="lifetime"
        )
    return datetime.timedelta(seconds=lifetime_s)


def _note(
    connection: Connection,
    action: str,
    before: KeyRecord | None,
    after: KeyRecord,
    actor: str | Actor,
    reason: str,
) -> None:
    note_change(
        connection,
        action,
        kind="key",
        subject=after.id,
        before=before,
        after=after,
        actor=actor,
        reason=reason,
    )
