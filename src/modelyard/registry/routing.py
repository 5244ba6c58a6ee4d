"""Changes of routes, each appended to a history that is a stack and never overwritten.

Every change knows the one `before` it that a rollback returns to. A deploy puts itself on top of
the present change; a rollback repeats an older change with that one's own `before`. So repeated
rollbacks walk back to the first deploy and stop, whatever happened in between.
"""

import datetime
from typing import Any, Literal

from sqlalchemy import Connection, Row, delete, insert, select, update

from modelyard.core.errors import Conflict
from modelyard.registry import queries
from modelyard.registry.tables import route_changes, routes
from modelyard.registry.values import Route

Targets = list[dict[str, int]]


def deploy(
    connection: Connection, model: str, number: int, *, forced: bool, actor: str, reason: str
) -> int:
    """Route all calls to one version, which is not the routed one; returns the generation."""
    targets = [{"version": number, "weight": 100}]
    last = _last_change(connection, model)
    before = last
    if before is not None and before.targets is None:
        before = _find_change(connection, before.before)
        # Back to what was taken away: a rollback from it to itself would be none.
        if before is not None and before.targets == targets:
            before = _find_change(connection, before.before)
    action: Literal["deploy", "deploy_forced"] = "deploy_forced" if forced else "deploy"
    return _append(
        connection,
        model=model,
        action=action,
        targets=targets,
        before=before.generation if before is not None else None,
        actor=actor,
        reason=reason,
    )


def rollback(connection: Connection, model: str, *, actor: str, reason: str) -> int:
    """Return to the change before the present one; raises `Conflict` at the first."""
    last = _last_change(connection, model)
    target = _find_change(connection, last.before) if last is not None else None
    if target is None:
        raise Conflict(
            "nothing_earlier",
            f"'{model}' cannot be rolled back: "
            + ("it was never deployed" if last is None else "no version was routed before"),
            field="model",
        )
    return _append(
        connection,
        model=model,
        action="rollback",
        targets=target.targets,
        before=target.before,
        actor=actor,
        reason=reason,
    )


def undeploy(connection: Connection, model: str, route: Route, *, actor: str, reason: str) -> int:
    """Take the route away; a rollback brings it back. Returns the generation."""
    return _append(
        connection,
        model=model,
        action="undeploy",
        targets=None,
        before=route.generation,
        actor=actor,
        reason=reason,
    )


def _append(
    connection: Connection,
    *,
    model: str,
    action: str,
    targets: Targets | None,
    before: int | None,
    actor: str,
    reason: str,
) -> int:
    generation = queries.generation(connection) + 1
    connection.execute(
        insert(route_changes).values(
            generation=generation,
            model=model,
            action=action,
            targets=targets,
            before=before,
            changed=datetime.datetime.now(datetime.UTC),
            actor=actor,
            reason=reason,
        )
    )
    if targets is None:
        connection.execute(delete(routes).where(routes.c.model == model))
    elif not connection.execute(
        update(routes).where(routes.c.model == model).values(generation=generation)
    ).rowcount:
        connection.execute(insert(routes).values(model=model, generation=generation))
    return generation


def _last_change(connection: Connection, model: str) -> Row[Any] | None:
    return connection.execute(
        select(route_changes)
        .where(route_changes.c.model == model)
        .order_by(route_changes.c.generation.desc())
        .limit(1)
    ).one_or_none()


def _find_change(connection: Connection, generation: int | None) -> Row[Any] | None:
    if generation is None:
        return None
    return connection.execute(
        select(route_changes).where(route_changes.c.generation == generation)
    ).one()
