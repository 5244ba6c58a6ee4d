"""Changes of routes: made at once, or written down until a second person approves them."""

from collections.abc import Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection

from modelyard.core.approval import Change
from modelyard.core.identity import Actor
from modelyard.core.options import set_options
from modelyard.core.rollout import Guard, Plan
from modelyard.core.route import Options, Route, Shadow, Target
from modelyard.registry import queries, rollouts, routing
from modelyard.registry.auditing import audit_route


def make_change(
    connection: Connection,
    change: Change,
    *,
    actor: str | Actor,
    reason: str,
    details: Mapping[str, Any] | None = None,
) -> Route:
    """Put a change in force; a running roll-out is stopped. Returns the route, or the roll-out's
    first."""
    model = change.route.model
    previous = queries.find_route(connection, model)
    rollouts.stop(connection, model, change.action, actor)
    if change.plan is not None:
        assert previous is not None, "a roll-out begins from a route"  # noqa: S101
        rollouts.start(
            connection,
            change.route,
            previous,
            change.number,
            change.plan,
            action=change.action,
            actor=actor,
            reason=reason,
            details=details,
        )
        begun = queries.find_route(connection, model)
        assert begun is not None  # noqa: S101 - it was just put in place
        return begun
    route = routing.change(
        connection, change.route, action=change.action, actor=actor, reason=reason
    )
    audit_route(connection, change.action, route, previous, change.number, actor, reason, details)
    return route


def encode_change(change: Change) -> dict[str, Any]:
    """A change as JSON has it; `decode_change` reads it back."""
    route, plan = change.route, change.plan
    return {
        "action": change.action,
        "number": change.number,
        "route": {
            "targets": [[each.version, each.percent] for each in route.targets],
            "shadow": None
            if route.shadow is None
            else [route.shadow.version, route.shadow.percent],
            "sticky": route.sticky,
            "options": msgspec.to_builtins(set_options(route.options)),
        },
        "plan": None
        if plan is None
        else {
            "steps": list(plan.steps),
            "every_s": plan.every_s,
            "guards": [guard.text for guard in plan.guards],
            "least_calls": plan.least_calls,
        },
    }


def decode_change(model: str, plain: Mapping[str, Any]) -> Change:
    """The change that was written down."""
    route, plan = plain["route"], plain["plan"]
    shadow = route["shadow"]
    return Change(
        action=plain["action"],
        number=plain["number"],
        route=Route(
            model=model,
            generation=0,
            targets=tuple(Target(number, float(percent)) for number, percent in route["targets"]),
            shadow=None if shadow is None else Shadow(shadow[0], float(shadow[1])),
            sticky=route["sticky"],
            options=msgspec.convert(route["options"], Options),
        ),
        plan=None
        if plan is None
        else Plan(
            steps=tuple(map(float, plan["steps"])),
            every_s=float(plan["every_s"]),
            guards=tuple(map(Guard.parse, plan["guards"])),
            least_calls=plan["least_calls"],
        ),
    )
