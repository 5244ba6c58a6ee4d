"""Audit rows, written in the transaction of what they tell."""

import datetime
from typing import Any

from sqlalchemy import Connection, insert

from modelyard.core.route import Route
from modelyard.registry import queries
from modelyard.registry.tables import audit


def write_audit(
    connection: Connection,
    action: str,
    model: str,
    number: int,
    actor: str,
    reason: str,
    details: dict[str, Any],
) -> None:
    """Say who changed what and why."""
    connection.execute(
        insert(audit).values(
            at=datetime.datetime.now(datetime.UTC),
            actor=actor,
            action=action,
            model=model,
            number=number,
            reason=reason,
            details=details,
        )
    )


def audit_route(
    connection: Connection,
    action: str,
    route: Route,
    previous: Route | None,
    number: int,
    actor: str,
    reason: str,
) -> None:
    """Say what a route was changed to; `number` is the version that the change is about."""
    details = {
        "generation": route.generation,
        "previous": previous.number if previous is not None else None,
        **queries.to_columns(route),
    }
    write_audit(connection, action, route.model, number, actor, reason, details)
