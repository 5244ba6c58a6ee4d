"""Audit rows, written in the transaction of what they tell, each hung on the chain of its node."""

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, insert, select

from modelyard.core.identity import Actor, as_actor
from modelyard.core.route import Route
from modelyard.registry import queries
from modelyard.registry.chain import GENESIS, hash_row, mark_row, plain_row
from modelyard.registry.database import node_of
from modelyard.registry.tables import audit

_LONGEST_NAME: Final = 128

_encode = msgspec.json.Encoder(order="sorted").encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """What is to be written down: who did what to whom, and what that changed.

    `kind` says what `subject` names: `model`, `key`, `tenant`, `limit`, `tariff`, `policy`,
    `mapping`, `approval`, `call`, ... `model` is set where it concerns one. `at` is now unless it
    is set.
    """

    action: str
    actor: Actor
    kind: str
    subject: str
    reason: str = ""
    model: str | None = None
    number: int | None = None
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    details: Mapping[str, Any] | None = None
    at: datetime.datetime | None = None


def write_audit(
    connection: Connection,
    *,
    action: str,
    actor: str | Actor,
    kind: str,
    subject: str,
    reason: str = "",
    model: str | None = None,
    number: int | None = None,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Say who changed what and why, within the transaction of `Database.write` that changes it.

    `before` and `after` are the state that was changed, without secrets and digests of secrets;
    None where there was or is none. `details` holds what else is worth knowing.
    """
    entry = Entry(
        action=action,
        actor=as_actor(actor),
        kind=kind,
        subject=subject,
        reason=reason,
        model=model,
        number=number,
        before=before,
        after=after,
        details=details,
    )
    append(connection, (entry,))


def audit_route(
    connection: Connection,
    action: str,
    route: Route,
    previous: Route | None,
    number: int,
    actor: str | Actor,
    reason: str,
    details: Mapping[str, Any] | None = None,
) -> None:
    """Say what a route was changed to; `number` is the version that the change is about."""
    write_audit(
        connection,
        action=action,
        actor=actor,
        kind="model",
        subject=route.model,
        reason=reason,
        model=route.model,
        number=number,
        before=None if previous is None else route_state(previous),
        after=route_state(route),
        details=details,
    )


def route_state(route: Route) -> dict[str, Any]:
    """A route as the audit shows it."""
    return {"generation": route.generation, **queries.to_columns(route)}


def append(connection: Connection, entries: Iterable[Entry]) -> int:
    """Hang entries on this node's chain, in their order; returns how many they were."""
    node = node_of(connection)
    number = connection.execute(select(func.max(audit.c.id))).scalar() or 0
    sequence, previous = chain_head(connection, node)
    now = datetime.datetime.now(datetime.UTC)
    rows = []
    for entry in entries:
        number, sequence = number + 1, sequence + 1
        values = {"id": number, "node": node, "sequence": sequence, **_columns(entry, now)}
        plain = plain_row(values)
        values |= {"previous": previous, "marks": mark_row(plain)}
        previous = values["hash"] = hash_row(plain, previous)
        rows.append(values)
    if rows:
        connection.execute(insert(audit), rows)
    return len(rows)


def chain_head(connection: Connection, node: str) -> tuple[int, str]:
    """The length of a node's chain, and the hash of its last row."""
    last = connection.execute(
        select(audit.c.sequence, audit.c.hash)
        .where(audit.c.node == node)
        .order_by(audit.c.sequence.desc())
        .limit(1)
    ).one_or_none()
    return (0, GENESIS) if last is None else (last.sequence, last.hash)


def _columns(entry: Entry, now: datetime.datetime) -> dict[str, Any]:
    actor = entry.actor
    return {
        "at": (entry.at or now).astimezone(datetime.UTC),
        "actor": _storable(actor.name),
        "key": _storable(actor.key)[:_LONGEST_NAME],
        "tenant": _storable(actor.tenant)[:_LONGEST_NAME],
        "source": _storable(actor.source)[:_LONGEST_NAME],
        "request_id": _storable(actor.request_id)[:_LONGEST_NAME],
        "action": entry.action,
        "kind": entry.kind,
        "subject": _storable(entry.subject),
        "model": entry.model,
        "number": entry.number,
        "reason": _storable(entry.reason),
        "before": None if entry.before is None else _text(entry.before),
        "after": None if entry.after is None else _text(entry.after),
        "details": _text(entry.details or {}),
    }


def _text(value: Mapping[str, Any]) -> str:
    return _storable(_encode(value).decode())


def _storable(text: str) -> str:
    """Text that every database takes: names and request ids come from outside."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
