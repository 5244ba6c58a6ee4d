"""Whether the tables of models say the same as the audit, which alone is chained and signed.

So whoever rewrites the history of a route, or lets a version's number point at another bundle, must
rewrite the audit too, where that is found.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from sqlalchemy import Connection, select

from modelyard.registry.tables import audit, route_changes, versions

_ROUTE = ("targets", "shadow", "sticky", "options")
_Key = tuple[str, int]


def find_contradictions(connection: Connection) -> Iterator[str]:
    """Every change of a route and every version that the audit tells otherwise, in words."""
    routes: dict[_Key, Mapping[str, Any]] = {}
    published: dict[_Key, Mapping[str, Any]] = {}
    rows = connection.execute(
        select(audit.c.model, audit.c.number, audit.c.action, audit.c.after, audit.c.details).where(
            audit.c.kind == "model"
        )
    )
    for row in rows:
        told = _decode(row.details) | _decode(row.after)
        if row.action == "publish":
            published[row.model, row.number] = told
        elif "generation" in told:
            routes[row.model, told["generation"]] = told
    yield from _compare_routes(connection, routes)
    yield from _compare_versions(connection, published)


def _compare_routes(connection: Connection, told: dict[_Key, Mapping[str, Any]]) -> Iterator[str]:
    # What was written before the audit told of generations cannot be compared.
    first = min((generation for _, generation in told), default=None)
    for row in connection.execute(select(route_changes)).mappings():
        if first is None or row["generation"] < first:
            continue
        name = f"change {row['generation']} of the route of '{row['model']}'"
        there = told.pop((row["model"], row["generation"]), None)
        if there is None:
            yield f"{name} is not in the audit"
        elif row["targets"] is None or "targets" not in there:
            if (row["targets"] is None) != ("targets" not in there):
                yield f"{name} is told otherwise by the audit"
        elif any(field in there and row[field] != there[field] for field in _ROUTE):
            yield f"{name} is told otherwise by the audit"
    for model, generation in told:
        yield f"change {generation} of the route of '{model}' is in the audit, and gone"


def _compare_versions(connection: Connection, told: dict[_Key, Mapping[str, Any]]) -> Iterator[str]:
    for row in connection.execute(select(versions)):
        there = told.pop((row.model, row.number), None)
        name = f"version {row.number} of '{row.model}'"
        if there is None:
            yield f"{name} is not in the audit"
        elif (there.get("digest", row.digest), there.get("state", row.state)) != (
            row.digest,
            row.state,
        ):
            yield f"{name} is told otherwise by the audit"
    for model, number in told:
        yield f"version {number} of '{model}' is in the audit, and gone"


def _decode(text: str | None) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        found = msgspec.json.decode(text)
    except msgspec.DecodeError:
        # A changed row, which was told as such.
        return {}
    return found if isinstance(found, dict) else {}
