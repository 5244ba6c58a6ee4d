"""Which version answered when: the changes of a route, with what the audit says of each."""

import dataclasses
import datetime
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from modelyard.core.errors import Invalid, NotFound
from modelyard.core.history import Era, Evidence
from modelyard.core.identity import Actor
from modelyard.core.records import RouteChange, Version
from modelyard.registry import queries
from modelyard.registry.tables import audit

Evaluate = Callable[[Version], Mapping[str, Any] | None]
"""What a version's manifest says of its evaluation."""


def list_eras(connection: Connection, model: str) -> list[Era]:
    """All times between changes of a model's route, oldest first; raises `NotFound`."""
    changes = queries.list_changes(connection, model)
    told = _audited(connection, model)
    ends: list[datetime.datetime | None] = [each.changed for each in changes[1:]]
    return [
        _to_era(change, until, told.get(change.generation))
        for change, until in zip(changes, [*ends, None], strict=False)
    ]


def find_era(connection: Connection, model: str, at: datetime.datetime, evaluate: Evaluate) -> Era:
    """What answered at a moment, with the evidence that it was deployed on.

    Raises `NotFound` for a moment before the first deploy, and `Invalid` for one yet to come.
    """
    if at > datetime.datetime.now(datetime.UTC):
        raise Invalid(
            "future_moment",
            f"{at:%Y-%m-%d %H:%M:%S %Z} has not come yet; name a past one",
            field="at",
        )
    eras = list_eras(connection, model)
    # Of several changes within one tick of the clock the last holds.
    found = next((era for era in reversed(eras) if era.since <= at), None)
    if found is None:
        first = f"was first deployed at {_tell(eras[0].since)}" if eras else "was never deployed"
        raise NotFound(
            "not_deployed_then",
            f"nothing answered for '{model}' at {_tell(at)}: it {first}",
            field="at",
        )
    if found.route is None:
        return found
    shares = {target.version: target.percent for target in found.route.targets}
    evidence = [
        _evidence(
            queries.find_version(connection, model, number), shares.get(number, 0.0), evaluate
        )
        for number in found.route.versions
    ]
    return dataclasses.replace(found, evidence=tuple(evidence))


def _evidence(version: Version, percent: float, evaluate: Evaluate) -> Evidence:
    return Evidence(
        version=version.number,
        percent=percent,
        state=version.state,
        digest=version.digest,
        published=version.created,
        published_by=version.actor,
        evaluation=evaluate(version),
    )


def _to_era(
    change: RouteChange, until: datetime.datetime | None, told: Mapping[str, Any] | None
) -> Era:
    details = {} if told is None else told["details"]
    approver = details.get("approved_by")
    return Era(
        model=change.model,
        generation=change.generation,
        action=change.action,
        since=change.changed,
        until=until,
        route=change.route,
        changed_by=Actor(name=change.actor) if told is None else told["actor"],
        reason=change.reason,
        approval=details.get("approval"),
        approved_by=None if approver is None else Actor(**approver),
    )


def _audited(connection: Connection, model: str) -> dict[int, Mapping[str, Any]]:
    """What the audit says of each change of a model's route, by generation."""
    rows: Sequence[Mapping[Any, Any]] = (
        connection.execute(select(audit).where(audit.c.model == model, audit.c.kind == "model"))
        .mappings()
        .all()
    )
    told: dict[int, Mapping[str, Any]] = {}
    for row in rows:
        details = msgspec.json.decode(row["details"])
        after = {} if row["after"] is None else msgspec.json.decode(row["after"])
        generation = after.get("generation", details.get("generation"))
        if generation is not None:
            actor = Actor(
                name=row["actor"],
                key=row["key"],
                tenant=row["tenant"],
                source=row["source"],
                request_id=row["request_id"],
            )
            told[generation] = {"actor": actor, "details": details}
    return told


def _tell(moment: datetime.datetime) -> str:
    return f"{moment.astimezone(datetime.UTC):%Y-%m-%d %H:%M:%S} UTC"
