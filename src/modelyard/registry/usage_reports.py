"""Reports of usage: the sums of hours or days, added up by what is asked for."""

import datetime
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, case, func, select

from modelyard.core.call import Outcome
from modelyard.core.errors import Invalid
from modelyard.core.usage import GROUPS, Known, Unit, Unrecorded, UsageLine, UsageReport
from modelyard.registry.tables import usage_days, usage_hours, usage_spools, usage_unrecorded

_COLUMNS: Final = ("tenant", "key", "model", "version", "outcome", "known")
_ADDED: Final = ("calls", "ok", "rows", "amount", "cost", "took_us")


def report(
    connection: Connection,
    by: Sequence[str],
    *,
    since: datetime.datetime | None,
    until: datetime.datetime | None,
    tenant: str | None,
    key: str | None,
    model: str | None,
) -> UsageReport:
    """Usage within a time, and what is missing from it."""
    for group in by:
        if group not in GROUPS:
            raise Invalid(
                "unknown_group",
                f"usage cannot be grouped by '{group}': use some of {', '.join(GROUPS)}",
                field="by",
            )
    since, until = _on_the_hour(since), _on_the_hour(until)
    wanted = {"tenant": tenant, "key": key, "model": model}
    damaged = connection.execute(select(func.sum(usage_spools.c.damaged))).scalar()
    return UsageReport(
        lines=_lines(connection, by, since, until, wanted),
        unrecorded=_unrecorded(connection, since, until, wanted),
        damaged=int(damaged or 0),
    )


def _lines(
    connection: Connection,
    by: Sequence[str],
    since: datetime.datetime | None,
    until: datetime.datetime | None,
    wanted: dict[str, str | None],
) -> tuple[UsageLine, ...]:
    whole_days = all(each is None or each.hour == 0 for each in (since, until))
    table = usage_days if whole_days and "hour" not in by else usage_hours
    columns = [table.c[name] for name in _COLUMNS if name in by]
    if "hour" in by or "day" in by:
        columns.append(table.c.start)
    columns += [table.c.unit, table.c.currency]
    rows = connection.execute(
        select(
            *columns,
            func.sum(table.c.calls).label("calls"),
            func.sum(case((table.c.outcome == Outcome.OK.value, table.c.calls), else_=0)).label(
                "ok"
            ),
            *(func.sum(table.c[name]).label(name) for name in _ADDED[2:]),
        )
        .where(*_within(table.c.start, since, until), *_matching(table, wanted))
        .group_by(*columns)
    ).mappings()
    # The hours of a day may have been asked for in part.
    sums: dict[tuple[Any, ...], list[int]] = {}
    for row in rows:
        group = tuple(_value(name, row) for name in (*by, "unit", "currency"))
        totals = sums.setdefault(group, [0] * len(_ADDED))
        for place, name in enumerate(_ADDED):
            totals[place] += int(row[name])
    return tuple(
        _line((*by, "unit", "currency", *_ADDED), (*group, *totals))
        for group, totals in sorted(sums.items(), key=lambda each: each[0])
    )


def _line(names: Sequence[str], values: Sequence[Any]) -> UsageLine:
    return UsageLine(**dict(zip(names, values, strict=True)))


def _value(name: str, row: Any) -> Any:
    match name:
        case "day":
            return row["start"].replace(hour=0)
        case "hour":
            return row["start"]
        case "outcome":
            return Outcome(row[name])
        case "known":
            return Known(row[name])
        case "unit":
            return Unit(row[name])
    return row[name]


def _unrecorded(
    connection: Connection,
    since: datetime.datetime | None,
    until: datetime.datetime | None,
    wanted: dict[str, str | None],
) -> tuple[Unrecorded, ...]:
    table = usage_unrecorded
    columns = (table.c.hour, table.c.tenant, table.c.key, table.c.model, table.c.version)
    rows = connection.execute(
        select(*columns, func.sum(table.c.calls).label("calls"))
        .where(*_within(table.c.hour, since, until), *_matching(table, wanted))
        .group_by(*columns)
        .order_by(*columns)
    )
    return tuple(
        Unrecorded(
            tenant=row.tenant,
            key=row.key,
            model=row.model,
            version=row.version,
            hour=row.hour,
            calls=int(row.calls),
        )
        for row in rows
    )


def _within(
    column: ColumnElement[Any], since: datetime.datetime | None, until: datetime.datetime | None
) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions.append(column >= since)
    if until is not None:
        conditions.append(column < until)
    return conditions


def _matching(table: Table, wanted: dict[str, str | None]) -> list[ColumnElement[bool]]:
    return [table.c[name] == value for name, value in wanted.items() if value is not None]


def _on_the_hour(moment: datetime.datetime | None) -> datetime.datetime | None:
    if moment is None:
        return None
    return moment.astimezone(datetime.UTC).replace(minute=0, second=0, microsecond=0)
