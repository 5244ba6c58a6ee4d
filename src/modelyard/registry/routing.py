"""Changes of routes, each appended to a history that is a stack and never overwritten.

Every change knows the one `before` it that a rollback returns to. A change puts itself on top of
the present one; a rollback repeats an older change with that one's own `before`. So repeated
rollbacks walk back to the first deploy and stop, whatever happened in between.
"""

import dataclasses
import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update

from modelyard.core.errors import Conflict
from modelyard.core.identity import Actor, as_actor
from modelyard.core.route import Route
from modelyard.registry import queries
from modelyard.registry.tables import route_changes, routes


def change(
    connection: Connection,
    route: Route,
    *,
    action: str,
    actor: str | Actor,
    reason: str,
    before: int | None = None,
) -> Route:
    """Route a model's calls so; returns the route with its generation.

    A rollback returns to `before`, or else to what was routed until now.
    """
    if before is None:
        before = _generation_before(connection, route)
    generation = _append(
        connection,
        route.model,
        action=action,
        columns=queries.to_columns(route),
        before=before,
        actor=actor,
        reason=reason,
    )
    return dataclasses.replace(route, generation=generation)


def rollback(connection: Connection, model: str, *, actor: str | Actor, reason: str) -> Route:
    """Return to the change before the present one; raises `Conflict` at the first."""
    last = _last_change(connection, model)
    target = _find_change(connection, last.before) if last is not None else None
    route = queries.to_route(target) if target is not None else None
    if target is None or route is None:
        raise Conflict(
            "nothing_earlier",
            f"'{model}' cannot be rolled back: "
            + ("it was never deployed" if last is None else "no version was routed before"),
            field="model",
        )
    generation = _append(
        connection,
        model,
        action="rollback",
        columns=queries.to_columns(route),
        before=target.before,
        actor=actor,
        reason=reason,
    )
    return dataclasses.replace(route, generation=generation)


def undeploy(connection: Connection, route: Route, *, actor: str | Actor, reason: str) -> int:
    """Take the route away; a rollback brings it back. Returns the generation."""
    return _append(
        connection,
        route.model,
        action="undeploy",
        columns=queries.to_columns(None),
        before=route.generation,
        actor=actor,
        reason=reason,
    )


def _generation_before(connection: Connection, route: Route) -> int | None:
    before = _last_change(connection, route.model)
    if before is not None and before.targets is None:
        before = _find_change(connection, before.before)
        # Back to what was taken away: a rollback from it to itself would be none.
        if before is not None and (taken := queries.to_route(before)) and route.says(taken):
            before = _find_change(connection, before.before)
    return None if before is None else int(before.generation)


def _append(
    connection: Connection,
    model: str,
    *,
    action: str,
    columns: dict[str, Any],
    before: int | None,
    actor: str | Actor,
    reason: str,
) -> int:
    generation = queries.generation(connection) + 1
    connection.execute(
        insert(route_changes).values(
            generation=generation,
            model=model,
            action=action,
            before=before,
            changed=datetime.datetime.now(datetime.UTC),
            actor=as_actor(actor).name,
            reason=reason,
            **columns,
        )
    )
    if columns["targets"] is None:
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
