"""Four eyes: changes that one person asks for and another approves, each exactly as it stands.

Where the policy asks for it, whatever brings a version to a model's calls (deploy, canary, shadow,
promotion, roll-out, forced or not) becomes a request. A rollback does not, as the route that it
returns to has been in force before, nor does taking a route away, nor a change of options alone:
these are the way out when something is on fire, and the audit shows them.
"""

import datetime
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, func, insert, select, update

from modelyard.core.approval import Approval, ApprovalState, Change, is_same_person
from modelyard.core.errors import ApprovalNeeded, Conflict, Denied, NotFound
from modelyard.core.identity import Actor, as_actor
from modelyard.core.records import Version
from modelyard.core.route import Route
from modelyard.registry import queries
from modelyard.registry.auditing import write_audit
from modelyard.registry.changes import decode_change, encode_change, make_change
from modelyard.registry.database import Database
from modelyard.registry.policies import find_policy
from modelyard.registry.tables import approvals, keys, route_changes

_FREE: Final = "options"
"""The action that changes no version."""
_MOST_ROTATIONS: Final = 1000

Check = Callable[[Connection, Version], None]
"""Raises where a version may not be served by the policy in force."""


class ApprovalBook:
    """The changes that wait, and those that were decided. May be used from many threads."""

    def __init__(self, database: Database, check: Check) -> None:
        self._database = database
        self._check = check

    def list(
        self, *, model: str | None = None, state: ApprovalState | None = None
    ) -> list[Approval]:
        """Every request, newest first."""
        query = select(approvals).order_by(approvals.c.id.desc())
        if model is not None:
            query = query.where(approvals.c.model == model)
        with self._database.read() as connection:
            found = [_to_approval(connection, row) for row in connection.execute(query).mappings()]
        return [each for each in found if state is None or each.state == state]

    def get(self, number: int) -> Approval:
        """One request; raises `NotFound`."""
        with self._database.read() as connection:
            return _find(connection, number)

    def approve(self, number: int, *, actor: str | Actor, reason: str = "") -> Approval:
        """Make the change that was asked for, in one transaction with both names in the audit.

        Raises `Denied` for the person who asked, and `Conflict` for a request that was decided, has
        expired, or is of a route that has changed since.
        """
        who = as_actor(actor)
        with self._database.write() as connection:
            asked = _find(connection, number)
            _check_pending(asked)
            _check_other_person(connection, asked.asked_by, who)
            for version in asked.change.route.versions:
                self._check(connection, queries.find_version(connection, asked.model, version))
            candidate = queries.find_version(connection, asked.model, asked.change.number)
            self._check(connection, candidate)
            route = make_change(
                connection,
                asked.change,
                actor=asked.asked_by,
                reason=asked.asked_reason,
                details={
                    "approval": asked.id,
                    "approved_by": {"name": who.name, "key": who.key, "tenant": who.tenant},
                },
            )
            return _decide(connection, asked, "approved", who, reason, route.generation)

    def reject(self, number: int, *, actor: str | Actor, reason: str) -> Approval:
        """Say no, or take one's own request back; raises `Conflict` for one that was decided."""
        with self._database.write() as connection:
            asked = _find(connection, number)
            if asked.decided is not None:
                _check_pending(asked)
            return _decide(connection, asked, "rejected", as_actor(actor), reason, None)


def make_or_ask(
    connection: Connection, change: Change, *, actor: str | Actor, reason: str
) -> Route:
    """Make a change, or write it down and raise `ApprovalNeeded`, which does not undo that."""
    policy = find_policy(connection).policy
    model = change.route.model
    if change.action == _FREE or not policy.needs_approval(model):
        return make_change(connection, change, actor=actor, reason=reason)
    until = datetime.timedelta(seconds=policy.approval_s)
    asked = _ask(connection, change, as_actor(actor), reason, until)
    raise ApprovalNeeded(
        "approval_needed",
        f"changes of '{model}' need a second person; this one, asked for by "
        f"'{asked.asked_by.name}', waits as request {asked.id}: "
        f"modelyard approvals approve {asked.id}",
        approval=asked.id,
    )


def _ask(
    connection: Connection,
    change: Change,
    who: Actor,
    reason: str,
    patience: datetime.timedelta,
) -> Approval:
    model, plain = change.route.model, encode_change(change)
    for row in connection.execute(
        select(approvals).where(approvals.c.model == model, approvals.c.state == "pending")
    ).mappings():
        there = _to_approval(connection, row)
        if there.state == "pending" and row["change"] == plain:
            return there
    now = datetime.datetime.now(datetime.UTC)
    number = (connection.execute(select(func.max(approvals.c.id))).scalar() or 0) + 1
    connection.execute(
        insert(approvals).values(
            id=number,
            model=model,
            change=plain,
            generation=_generation(connection, model),
            asked=now,
            asked_by=msgspec.to_builtins(who),
            asked_reason=reason,
            expires=now + patience,
            state="pending",
            decided_reason="",
        )
    )
    write_audit(
        connection,
        action="ask",
        actor=who,
        kind="approval",
        subject=str(number),
        reason=reason,
        model=model,
        number=change.number,
        after=plain,
    )
    return _find(connection, number)


def _decide(
    connection: Connection,
    asked: Approval,
    state: ApprovalState,
    who: Actor,
    reason: str,
    result: int | None,
) -> Approval:
    connection.execute(
        update(approvals)
        .where(approvals.c.id == asked.id)
        .values(
            state=state,
            decided=datetime.datetime.now(datetime.UTC),
            decided_by=msgspec.to_builtins(who),
            decided_reason=reason,
            result=result,
        )
    )
    first = asked.asked_by
    write_audit(
        connection,
        action="approve" if state == "approved" else "reject",
        actor=who,
        kind="approval",
        subject=str(asked.id),
        reason=reason,
        model=asked.model,
        number=asked.change.number,
        before={"state": "pending"},
        after={"state": state, "generation": result},
        details={"asked_by": {"name": first.name, "key": first.key, "tenant": first.tenant}},
    )
    return _find(connection, asked.id)


def _check_pending(asked: Approval) -> None:
    name = f"request {asked.id}"
    if asked.state == "expired":
        raise Conflict(
            "approval_expired",
            f"{name} expired at {asked.expires:%Y-%m-%d %H:%M} UTC; ask for the change anew",
            field="approval",
        )
    if asked.state == "stale":
        raise Conflict(
            "approval_stale",
            f"{name} is of a route of '{asked.model}' that has changed since; "
            "look at the present one and ask anew",
            field="approval",
        )
    if asked.decided_by is not None:
        raise Conflict(
            "approval_decided",
            f"{name} was {asked.state} by '{asked.decided_by.name}' already",
            field="approval",
        )


def _check_other_person(connection: Connection, one: Actor, other: Actor) -> None:
    line = _rotations(connection, one.key) & _rotations(connection, other.key)
    if line or is_same_person(one, other):
        raise Denied(
            "same_person",
            f"'{one.name}' has asked for this change, so somebody else must approve it",
            field="approval",
        )


def _rotations(connection: Connection, key: str) -> set[str]:
    """A key and those that it has taken the place of: one person's, by whatever name."""
    line: set[str] = set()
    while key and key not in line and len(line) < _MOST_ROTATIONS:
        line.add(key)
        query = select(keys.c.replaces).where(keys.c.id == key)
        key = connection.execute(query).scalar() or ""
    return line


def _generation(connection: Connection, model: str) -> int:
    """The last change of a model's route, be it that it was taken away."""
    query = select(func.max(route_changes.c.generation)).where(route_changes.c.model == model)
    return connection.execute(query).scalar() or 0


def _find(connection: Connection, number: int) -> Approval:
    row = (
        connection.execute(select(approvals).where(approvals.c.id == number))
        .mappings()
        .one_or_none()
    )
    if row is None:
        raise NotFound("unknown_approval", f"there is no request {number}", field="approval")
    return _to_approval(connection, row)


def _to_approval(connection: Connection, row: Mapping[Any, Any]) -> Approval:
    state: ApprovalState = row["state"]
    if state == "pending":
        if row["expires"] <= datetime.datetime.now(datetime.UTC):
            state = "expired"
        elif row["generation"] != _generation(connection, row["model"]):
            state = "stale"
    decided_by = row["decided_by"]
    return Approval(
        id=row["id"],
        model=row["model"],
        change=decode_change(row["model"], row["change"]),
        generation=row["generation"],
        asked=row["asked"],
        asked_by=msgspec.convert(row["asked_by"], Actor),
        asked_reason=row["asked_reason"],
        expires=row["expires"],
        state=state,
        decided=row["decided"],
        decided_by=None if decided_by is None else msgspec.convert(decided_by, Actor),
        decided_reason=row["decided_reason"],
        result=row["result"],
    )
