"""Proof that spools and database say the same: every event is copied once, or still waits."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Row, Table, func, select

from modelyard.core.usage import Reconciliation
from modelyard.gateway.metering import segment as segments
from modelyard.gateway.metering import tally as tallies
from modelyard.gateway.metering.batch import (
    Sums,
    add_up,
    bodies,
    checksum,
    decode_subjects,
    unpack,
)
from modelyard.gateway.metering.reading import DAMAGED, Found, read_segment
from modelyard.registry.database import Database
from modelyard.registry.tables import (
    usage_batches,
    usage_days,
    usage_hours,
    usage_spools,
    usage_unrecorded,
)
from modelyard.registry.usage_sums import ADDED, KEY, Kept, by_day, by_key

_MOST_TOLD: Final = 100


@dataclass
class _Findings:
    batches: int = 0
    copied: int = 0
    compared: int = 0
    waiting: int = 0
    damaged: int = 0
    differences: list[str] = field(default_factory=list)

    def differs(self, text: str) -> None:
        self.differences.append(text)


def reconcile(database: Database, folder: Path) -> Reconciliation:
    """Hold the spools in a folder, the batches that were copied, and their sums together."""
    findings = _Findings()
    # Files before the database: whatever is found in them as copied can be seen there then.
    spools = {path.stem for path in folder.glob(f"*{tallies.SUFFIX}")}
    for path in sorted(folder.glob(f"*{segments.SUFFIX}")):
        spools.add(path.name.partition(".")[0])
        _check_segment(database, path, findings)
    for path in sorted(folder.glob(f"*{DAMAGED}")):
        findings.differs(f"{path.name} holds events that nobody can read")
    with database.read() as connection:
        _check_database(connection, findings)
        unrecorded = connection.execute(select(func.sum(usage_unrecorded.c.calls))).scalar()
    told = findings.differences[:_MOST_TOLD]
    if len(findings.differences) > len(told):
        told.append(f"and {len(findings.differences) - len(told)} more")
    return Reconciliation(
        spools=len(spools),
        batches=findings.batches,
        copied=findings.copied,
        compared=findings.compared,
        waiting=findings.waiting,
        unrecorded=int(unrecorded or 0),
        damaged=findings.damaged,
        differences=tuple(told),
    )


def _check_segment(database: Database, path: Path, findings: _Findings) -> None:
    try:
        found = read_segment(path)
    except FileNotFoundError:
        # All of it was copied meanwhile.
        return
    except ValueError as error:
        findings.differs(str(error))
        return
    if found is None:
        return
    with database.read() as connection:
        position = connection.execute(
            select(usage_spools.c.position).where(usage_spools.c.spool == found.head.spool)
        ).scalar()
        copied = min(max((position or 0) - found.head.first, 0), found.places)
        kept = _kept_events(connection, found, copied) if copied else None
    findings.waiting += int(found.whole[copied:].sum())
    findings.damaged += _damaged_and_waiting(found, copied)
    if kept is None:
        return
    mine = set(bodies(found.events[:copied][found.whole[:copied]]))
    findings.compared += len(mine)
    for event in sorted(mine - kept)[:_MOST_TOLD]:
        findings.differs(f"{path.name} has {_name(event, found)}, which was never copied")
    lost = kept - mine
    if lost:
        findings.differs(
            f"{path.name}: {len(lost)} copied events, among them {_name(min(lost), found)}, "
            "cannot be read there any more; the file was changed or is damaged"
        )


def _damaged_and_waiting(found: Found, copied: int) -> int:
    """Events that cannot be read; of a living process the last may just be being written."""
    return int((~found.whole[copied:-1]).sum()) if found.places > copied else 0


def _kept_events(connection: Connection, found: Found, copied: int) -> set[bytes] | None:
    """What the database has of a segment; None where it is past its retention."""
    rows = connection.execute(
        select(usage_batches.c.records).where(
            usage_batches.c.spool == found.head.spool,
            usage_batches.c.first + usage_batches.c.places > found.head.first,
            usage_batches.c.first < found.head.first + copied,
        )
    ).all()
    if any(row.records is None for row in rows):
        return None
    kept: set[bytes] = set()
    for row in rows:
        kept |= set(bodies(unpack(row.records)))
    return kept


def _name(event: bytes, found: Found) -> str:
    return f"call {found.head.prefix}-{int.from_bytes(event[:8], 'little'):x}"


def _check_database(connection: Connection, findings: _Findings) -> None:
    totals: Kept = {}
    horizon: datetime.datetime | None = None
    for spool in connection.execute(select(usage_spools).order_by(usage_spools.c.spool)).all():
        gone = _check_spool(connection, spool, totals, findings)
        if gone is not None:
            horizon = gone if horizon is None else max(horizon, gone)
    _check_hours(connection, totals, horizon, findings)
    _check_days(connection, findings)


def _check_spool(
    connection: Connection, spool: Row[Any], totals: Kept, findings: _Findings
) -> datetime.datetime | None:
    """Whether a spool's batches follow each other and are as they were; adds them up.

    Returns when the last of the events was that are past their retention.
    """
    after = events = damaged = 0
    horizon: datetime.datetime | None = None
    for row in _batches(connection, spool.spool):
        name = f"batch {spool.spool}/{row.first}"
        if row.first != after:
            findings.differs(f"{name} does not follow the one before it, which ends at {after}")
        after = row.first + row.places
        events += row.events
        damaged += row.damaged
        findings.batches += 1
        if row.records is None:
            horizon = row.until if horizon is None else max(horizon, row.until)
        elif checksum(row.records) != row.sha256:
            findings.differs(f"{name} is not what was copied: its checksum differs")
        else:
            _add_batch(row, totals)
    for what, is_so, should in (
        ("position", after, spool.position),
        ("events", events, spool.events),
        ("damaged", damaged, spool.damaged),
    ):
        if is_so != should:
            findings.differs(f"spool {spool.spool}: its batches say {what} {is_so}, not {should}")
    findings.copied += events
    findings.damaged += damaged
    return horizon


def _batches(connection: Connection, spool: str) -> Iterator[Row[Any]]:
    return iter(
        connection.execute(
            select(usage_batches)
            .where(usage_batches.c.spool == spool)
            .order_by(usage_batches.c.first)
            # A batch may have a megabyte: not all of them at once.
            .execution_options(yield_per=16)
        )
    )


def _add_batch(row: Row[Any], totals: Kept) -> None:
    subjects = decode_subjects(row.subjects)
    for key, sums in by_key(add_up(unpack(row.records), subjects), subjects).items():
        totals[key] = totals.get(key, Sums()) + sums


def _check_hours(
    connection: Connection,
    totals: Kept,
    horizon: datetime.datetime | None,
    findings: _Findings,
) -> None:
    """Whether the sums by hour are those of the events, as far back as all events are kept."""
    kept = _read_sums(connection, usage_hours)
    for key in sorted(totals.keys() | kept.keys()):
        if horizon is not None and key[0] <= horizon:
            continue
        if totals.get(key, Sums()) != kept.get(key, Sums()):
            findings.differs(
                f"hour {_tell(key)}: the events add up to {totals.get(key, Sums())}, "
                f"kept is {kept.get(key, Sums())}"
            )


def _check_days(connection: Connection, findings: _Findings) -> None:
    sums = by_day(_read_sums(connection, usage_hours))
    kept = _read_sums(connection, usage_days)
    for key in sorted(sums.keys() | kept.keys()):
        if sums.get(key) != kept.get(key):
            findings.differs(
                f"day {_tell(key)}: its hours add up to {sums.get(key)}, kept is {kept.get(key)}"
            )


def _read_sums(connection: Connection, table: Table) -> Kept:
    return {
        tuple(row[name] for name in KEY): Sums(*(row[name] for name in ADDED))
        for row in connection.execute(select(table)).mappings()
    }


def _tell(key: tuple[Any, ...]) -> str:
    start, *rest = key
    return f"{start:%Y-%m-%d %H:%M} {' '.join(map(str, rest))}"
