"""Usage in SQL: taken from spools in batches, each event once, and added up by hour and day."""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, Table, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from modelyard.core.usage import Reconciliation, UsageEvent, UsageReport
from modelyard.gateway.metering.batch import (
    Batch,
    Sums,
    add_up,
    checksum,
    decode_subjects,
    encode_subjects,
    moment,
    pack,
    spelled_out,
    unpack,
)
from modelyard.gateway.metering.layout import HOUR_NS
from modelyard.gateway.metering.tally import Missed
from modelyard.registry.audited_calls import audit_calls
from modelyard.registry.database import Database
from modelyard.registry.reconciling import reconcile
from modelyard.registry.tables import (
    usage_batches,
    usage_days,
    usage_hours,
    usage_spools,
    usage_unrecorded,
)
from modelyard.registry.usage_reports import report
from modelyard.registry.usage_sums import ADDED, KEY, by_day, by_key

_GONE: Final = ""
"""The checksum of what is no longer there."""


class UsageBook:
    """The usage of a registry. May be used from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # What copies spools asks of it

    def position(self, spool: str) -> int:
        """How many places of a spool were copied."""
        with self._database.read() as connection:
            row = _find(connection, spool)
            return 0 if row is None else int(row.position)

    def copy(self, batch: Batch) -> int:
        """Take a batch, if it begins where the spool's copies end; returns where they end now."""
        sums = by_key(add_up(batch.events, batch.subjects), batch.subjects)
        values = _batch_row(batch)
        with self._database.write() as connection:
            row = _find(connection, batch.spool)
            position = 0 if row is None else int(row.position)
            if position != batch.first:
                return position
            now = _now()
            if row is None:
                connection.execute(insert(usage_spools).values(_spool_row(batch, now)))
            else:
                connection.execute(
                    update(usage_spools)
                    .where(usage_spools.c.spool == batch.spool)
                    .values(
                        position=batch.after,
                        events=row.events + len(batch.events),
                        damaged=row.damaged + batch.damaged,
                        copied=now,
                    )
                )
            connection.execute(insert(usage_batches).values(values))
            _add(connection, usage_hours, sums)
            _add(connection, usage_days, by_day(sums))
            audit_calls(connection, batch)
        return batch.after

    def miss(self, spool: str, counts: Mapping[Missed, int]) -> None:
        """How many calls of whom a spool could not record, in all."""
        with self._database.write() as connection:
            connection.execute(delete(usage_unrecorded).where(usage_unrecorded.c.spool == spool))
            if counts:
                connection.execute(
                    insert(usage_unrecorded),
                    [
                        {
                            "spool": spool,
                            "hour": moment(missed.hour * HOUR_NS),
                            "tenant": missed.tenant,
                            "key": missed.key,
                            "model": missed.model,
                            "version": missed.version,
                            "calls": calls,
                        }
                        for missed, calls in counts.items()
                    ],
                )

    def end(self, spool: str) -> None:
        """All of a spool was copied, and no more will come."""
        with self._database.write() as connection:
            connection.execute(
                update(usage_spools).where(usage_spools.c.spool == spool).values(ended=_now())
            )

    # What people ask of it

    def report(
        self,
        by: Sequence[str] = (),
        *,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        tenant: str | None = None,
        key: str | None = None,
        model: str | None = None,
    ) -> UsageReport:
        """Usage of the hours from `since` to before `until`, added up by some of `GROUPS`.

        Both are rounded down to the hour. Raises `Invalid` for a group that there is none of.
        """
        with self._database.read() as connection:
            return report(
                connection, by, since=since, until=until, tenant=tenant, key=key, model=model
            )

    def events(
        self,
        *,
        call: str | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        tenant: str | None = None,
        key: str | None = None,
        model: str | None = None,
    ) -> Iterator[UsageEvent]:
        """Single calls that arrived from `since` to before `until`, as far as they are kept."""
        wanted = {"tenant": tenant, "key": key, "model": model}
        wanted = {name: value for name, value in wanted.items() if value is not None}
        condition = _about(call, since, until)
        with self._database.read() as connection:
            places = connection.execute(
                select(usage_batches.c.spool, usage_batches.c.first, usage_spools.c.prefix)
                .join(usage_spools, usage_spools.c.spool == usage_batches.c.spool)
                .where(*condition, usage_batches.c.records.is_not(None))
                .order_by(usage_batches.c.since, usage_batches.c.spool, usage_batches.c.first)
            ).all()
        for spool, first, prefix in places:
            for event in self._batch_events(spool, first, prefix):
                if (
                    call in (None, event.call)
                    and (since is None or event.arrived >= since)
                    and (until is None or event.arrived < until)
                    and all(getattr(event.subject, name) == wanted[name] for name in wanted)
                ):
                    yield event

    def _batch_events(self, spool: str, first: int, prefix: str) -> Iterator[UsageEvent]:
        # No connection is held while they are given out: whoever takes them may be slow.
        with self._database.read() as connection:
            row = connection.execute(
                select(usage_batches.c.records, usage_batches.c.subjects).where(
                    usage_batches.c.spool == spool,
                    usage_batches.c.first == first,
                    usage_batches.c.records.is_not(None),
                )
            ).one_or_none()
        # What was deleted since it was looked for is gone.
        if row is not None:
            yield from spelled_out(prefix, unpack(row.records), decode_subjects(row.subjects))

    def reconcile(self, folder: Path) -> Reconciliation:
        """Hold the spools in a folder and all that was copied against each other.

        Reads every event that is kept.
        """
        return reconcile(self._database, folder)

    def purge(self, before: datetime.datetime) -> int:
        """Delete the single events of batches that ended before then; their sums stay.

        Returns how many events.
        """
        with self._database.write() as connection:
            old = connection.execute(
                select(usage_batches)
                .with_only_columns(*(c for c in usage_batches.c if c.name != "records"))
                .where(usage_batches.c.until < before, usage_batches.c.sha256 != _GONE)
                .order_by(usage_batches.c.spool, usage_batches.c.first)
            ).all()
            for spool in dict.fromkeys(row.spool for row in old):
                _fold(connection, [row for row in old if row.spool == spool])
            return sum(row.events for row in old)


def _find(connection: Connection, spool: str) -> Row[Any] | None:
    return connection.execute(
        select(usage_spools).where(usage_spools.c.spool == spool)
    ).one_or_none()


def _spool_row(batch: Batch, now: datetime.datetime) -> dict[str, Any]:
    return {
        "spool": batch.spool,
        "prefix": batch.prefix,
        "position": batch.after,
        "events": len(batch.events),
        "damaged": batch.damaged,
        "begun": now,
        "copied": now,
    }


def _batch_row(batch: Batch) -> dict[str, Any]:
    records = pack(batch.events)
    numbers, arrivals = batch.events["number"], batch.events["arrived_ns"]
    any_there = len(batch.events) > 0
    now = _now()
    return {
        "spool": batch.spool,
        "first": batch.first,
        "places": batch.places,
        "events": len(batch.events),
        "damaged": batch.damaged,
        "low": int(numbers.min()) if any_there else 0,
        "high": int(numbers.max()) if any_there else 0,
        "since": moment(int(arrivals.min())) if any_there else now,
        "until": moment(int(arrivals.max())) if any_there else now,
        "sha256": checksum(records),
        "subjects": encode_subjects(batch.subjects),
        "records": records,
    }


def _add(connection: Connection, table: Table, sums: Mapping[tuple[Any, ...], Sums]) -> None:
    if not sums:
        return
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table)
    statement = statement.on_conflict_do_update(
        index_elements=list(KEY),
        set_={name: table.c[name] + statement.excluded[name] for name in ADDED},
    )
    connection.execute(
        statement,
        [
            {
                **dict(zip(KEY, key, strict=True)),
                **{name: getattr(each, name) for name in ADDED},
            }
            for key, each in sums.items()
        ],
    )


def _about(
    call: str | None, since: datetime.datetime | None, until: datetime.datetime | None
) -> list[ColumnElement[bool]]:
    """The batches in which calls can be."""
    conditions: list[ColumnElement[bool]] = []
    if since is not None:
        conditions.append(usage_batches.c.until >= since)
    if until is not None:
        conditions.append(usage_batches.c.since < until)
    if call is not None:
        prefix, _, text = call.rpartition("-")
        try:
            number = int(text, 16)
        except ValueError:
            number = -1
        conditions += [
            usage_spools.c.prefix == prefix,
            usage_batches.c.low <= number,
            usage_batches.c.high >= number,
        ]
    return conditions


def _fold(connection: Connection, old: Sequence[Row[Any]]) -> None:
    """Make neighbours among a spool's batches one that has no events any more."""
    for run in _runs(old):
        before = connection.execute(
            select(usage_batches).where(
                usage_batches.c.spool == run[0].spool,
                usage_batches.c.sha256 == _GONE,
                usage_batches.c.first + usage_batches.c.places == run[0].first,
            )
        ).one_or_none()
        gone = [*([before] if before is not None else []), *run]
        connection.execute(
            delete(usage_batches).where(
                usage_batches.c.spool == run[0].spool,
                usage_batches.c.first >= gone[0].first,
                usage_batches.c.first <= gone[-1].first,
            )
        )
        connection.execute(
            insert(usage_batches).values(
                spool=gone[0].spool,
                first=gone[0].first,
                places=sum(row.places for row in gone),
                events=sum(row.events for row in gone),
                damaged=sum(row.damaged for row in gone),
                low=min(row.low for row in gone),
                high=max(row.high for row in gone),
                since=min(row.since for row in gone),
                until=max(row.until for row in gone),
                sha256=_GONE,
                subjects={},
                records=None,
            )
        )


def _runs(rows: Iterable[Row[Any]]) -> Iterator[list[Row[Any]]]:
    """Batches that follow each other without a gap."""
    run: list[Row[Any]] = []
    for row in rows:
        if run and run[-1].first + run[-1].places != row.first:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
