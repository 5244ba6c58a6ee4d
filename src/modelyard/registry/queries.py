"""What is asked of the tables; every function reads within the caller's transaction."""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row, func, select

from modelyard.core.errors import NotFound
from modelyard.core.names import Reference
from modelyard.core.options import set_options
from modelyard.core.records import AuditRow, Model, RouteChange, Version
from modelyard.core.route import Options, Route, Shadow, Target
from modelyard.registry.tables import aliases, models, route_changes, routes, versions
from modelyard.registry.tables import identity as identity_table


def list_models(connection: Connection) -> list[Model]:
    """Every model, by name."""
    latest = (
        select(versions.c.model, func.max(versions.c.number).label("latest"))
        .group_by(versions.c.model)
        .subquery()
    )
    rows = connection.execute(
        select(models.c.name, models.c.created, latest.c.latest)
        .join(latest, latest.c.model == models.c.name, isouter=True)
        .order_by(models.c.name)
    ).all()
    routed = {route.model: route.number for route in list_routes(connection)}
    named: dict[str, dict[str, int]] = {}
    for model, alias, number in connection.execute(select(aliases).order_by(aliases.c.alias)):
        named.setdefault(model, {})[alias] = number
    return [
        Model(
            name=name,
            created=created,
            latest=newest,
            routed=routed.get(name),
            aliases=named.get(name, {}),
        )
        for name, created, newest in rows
    ]


def list_versions(connection: Connection, model: str) -> list[Version]:
    """Every version of a model, oldest first; raises `NotFound` for an unknown model."""
    rows = connection.execute(
        select(versions).where(versions.c.model == model).order_by(versions.c.number)
    ).all()
    if not rows:
        raise _unknown_model(connection, model)
    named: dict[int, list[str]] = {}
    for alias, number in connection.execute(
        select(aliases.c.alias, aliases.c.number)
        .where(aliases.c.model == model)
        .order_by(aliases.c.alias)
    ):
        named.setdefault(number, []).append(alias)
    return [_to_version(row, named.get(row.number, ())) for row in rows]


def find_version(connection: Connection, model: str, number: int) -> Version:
    """That version; raises `NotFound` saying which there are."""
    row = connection.execute(
        select(versions).where(versions.c.model == model, versions.c.number == number)
    ).one_or_none()
    if row is None:
        existing = list_versions(connection, model)
        raise NotFound(
            "unknown_version",
            f"'{model}' has no version {number}; it has {_range(existing)}",
            field="version",
        )
    return _to_version(row, _aliases_of(connection, model, number))


def find_alias(connection: Connection, model: str, alias: str) -> Version:
    """The version that an alias names; raises `NotFound` saying which aliases there are."""
    number = alias_number(connection, model, alias)
    if number is not None:
        return find_version(connection, model, number)
    names = sorted(name for version in list_versions(connection, model) for name in version.aliases)
    there = f"it has {', '.join(names)}" if names else "it has none"
    raise NotFound("unknown_alias", f"'{model}' has no alias '{alias}'; {there}", field="alias")


def alias_number(connection: Connection, model: str, alias: str) -> int | None:
    """The number that an alias points at."""
    return connection.execute(
        select(aliases.c.number).where(aliases.c.model == model, aliases.c.alias == alias)
    ).scalar()


def find_digest(connection: Connection, model: str, digest: str) -> Version | None:
    """The version of a model that points at that bundle."""
    row = connection.execute(
        select(versions).where(versions.c.model == model, versions.c.digest == digest)
    ).one_or_none()
    if row is None:
        return None
    return _to_version(row, _aliases_of(connection, model, row.number))


def newest_accepted(connection: Connection, model: str) -> Version:
    """The newest version that passed its gate; raises `NotFound`."""
    number = connection.execute(
        select(func.max(versions.c.number)).where(
            versions.c.model == model, versions.c.state == "accepted"
        )
    ).scalar()
    if number is not None:
        return find_version(connection, model, number)
    existing = list_versions(connection, model)
    raise NotFound(
        "no_accepted_version",
        f"no version of '{model}' passed its gate; name one of {_range(existing)} to use it anyway",
        field="version",
    )


def resolve(connection: Connection, reference: Reference) -> Version:
    """What a reference means now; a bare model is its routed or else newest accepted version."""
    if reference.version is not None:
        return find_version(connection, reference.model, reference.version)
    if reference.alias is not None:
        return find_alias(connection, reference.model, reference.alias)
    route = find_route(connection, reference.model)
    if route is not None:
        return find_version(connection, route.model, route.number)
    return newest_accepted(connection, reference.model)


def list_routes(connection: Connection) -> list[Route]:
    """Every model's present route, by model."""
    rows = connection.execute(_ROUTES.order_by(routes.c.model)).all()
    return [_to_route(row) for row in rows]


def find_route(connection: Connection, model: str) -> Route | None:
    """A model's present route."""
    row = connection.execute(_ROUTES.where(routes.c.model == model)).one_or_none()
    return None if row is None else _to_route(row)


def identity(connection: Connection) -> str:
    """The registry's own name."""
    return str(connection.execute(select(identity_table.c.id)).scalar_one())


def generation(connection: Connection) -> int:
    """The newest change of any route; 0 before the first."""
    return connection.execute(select(func.max(route_changes.c.generation))).scalar() or 0


def list_changes(connection: Connection, model: str) -> list[RouteChange]:
    """Every change of a model's route, oldest first; raises `NotFound` for an unknown model."""
    if not connection.execute(select(models).where(models.c.name == model)).first():
        raise _unknown_model(connection, model)
    rows = connection.execute(
        select(route_changes)
        .where(route_changes.c.model == model)
        .order_by(route_changes.c.generation)
    )
    return [
        RouteChange(
            generation=row.generation,
            model=row.model,
            action=row.action,
            number=route.number if route is not None else None,
            changed=row.changed,
            actor=row.actor,
            reason=row.reason,
            route=route,
        )
        for row, route in ((row, to_route(row)) for row in rows)
    ]


def to_audit_row(row: Mapping[Any, Any]) -> AuditRow:
    """An audit row from its columns."""
    values = {field.name: row[field.name] for field in dataclasses.fields(AuditRow)}
    for name in ("before", "after", "details"):
        values[name] = None if values[name] is None else msgspec.json.decode(values[name])
    return AuditRow(**values)


def to_route(row: Row[Any]) -> Route | None:
    """What a change says; None where it takes the route away."""
    return None if row.targets is None else _to_route(row)


def to_columns(route: Route | None) -> dict[str, Any]:
    """The columns of a change that says so."""
    if route is None:
        return {"targets": None}
    shadow = route.shadow
    return {
        "targets": [_weighted(target.version, target.percent) for target in route.targets],
        "shadow": None if shadow is None else _weighted(shadow.version, shadow.percent),
        "sticky": route.sticky,
        "options": set_options(route.options),
    }


def _weighted(version: int, percent: float) -> dict[str, Any]:
    return {"version": version, "weight": percent}


_ROUTES: Final = select(route_changes).join(
    routes, routes.c.generation == route_changes.c.generation
)


def _to_route(row: Row[Any]) -> Route:
    shadow = row.shadow
    return Route(
        model=row.model,
        generation=row.generation,
        targets=tuple(Target(each["version"], float(each["weight"])) for each in row.targets),
        shadow=None if shadow is None else Shadow(shadow["version"], float(shadow["weight"])),
        sticky=row.sticky,
        options=msgspec.convert(row.options, Options),
    )


def _to_version(row: Row[Any], names: Sequence[str]) -> Version:
    return Version(
        model=row.model,
        number=row.number,
        digest=row.digest,
        state=row.state,
        created=row.created,
        actor=row.actor,
        aliases=tuple(names),
    )


def _aliases_of(connection: Connection, model: str, number: int) -> Sequence[str]:
    query = (
        select(aliases.c.alias)
        .where(aliases.c.model == model, aliases.c.number == number)
        .order_by(aliases.c.alias)
    )
    return connection.execute(query).scalars().all()


def _unknown_model(connection: Connection, model: str) -> NotFound:
    names = connection.execute(select(models.c.name).order_by(models.c.name)).scalars().all()
    near = difflib.get_close_matches(model, names, n=1)
    if near:
        hint = f"did you mean '{near[0]}'?"
    elif names:
        hint = f"there {'is' if len(names) == 1 else 'are'} {', '.join(names[:10])}"
        hint += " …" if len(names) > 10 else ""
    else:
        hint = "nothing was published yet"
    return NotFound("unknown_model", f"there is no model '{model}'; {hint}", field="model")


def _range(existing: Sequence[Version]) -> str:
    # Numbers are consecutive and versions are never removed.
    last = existing[-1].number
    return "version 1" if last == 1 else f"versions 1 to {last}"
