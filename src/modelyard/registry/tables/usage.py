"""Usage: how far each spool was copied, the events in batches, and their sums."""

from sqlalchemy import JSON, Column, ForeignKey, Integer, LargeBinary, String, Table

from modelyard.registry.tables.base import BIG, Instant, metadata, name

# One spool is what one server process has written. `position` is how many places of it were copied,
# `events` how many of those could be read, `damaged` the others.
usage_spools = Table(
    "usage_spools",
    metadata,
    Column("spool", String(32), primary_key=True),
    Column("prefix", String(32), nullable=False, index=True),
    Column("position", BIG, nullable=False),
    Column("events", BIG, nullable=False),
    Column("damaged", BIG, nullable=False),
    Column("begun", Instant, nullable=False),
    Column("copied", Instant, nullable=False),
    Column("ended", Instant),
)

# The events of a spool from the place `first` on, and what their subjects are. `low` and `high`
# bound the numbers of the calls. Where `records` is null, they are past their retention: such
# batches of a spool are made one, so that it is still known that none is missing.
usage_batches = Table(
    "usage_batches",
    metadata,
    Column("spool", String(32), ForeignKey("usage_spools.spool"), primary_key=True),
    Column("first", BIG, primary_key=True, autoincrement=False),
    Column("places", BIG, nullable=False),
    Column("events", BIG, nullable=False),
    Column("damaged", BIG, nullable=False),
    Column("low", BIG, nullable=False),
    Column("high", BIG, nullable=False),
    Column("since", Instant, nullable=False),
    Column("until", Instant, nullable=False, index=True),
    Column("sha256", String(64), nullable=False),
    Column("subjects", JSON, nullable=False),
    Column("records", LargeBinary),
)


def _sums(table: str) -> Table:
    return Table(
        table,
        metadata,
        Column("start", Instant, primary_key=True),
        # Tenants and keys may come from another authority, and be longer than our own names.
        Column("tenant", String, primary_key=True),
        Column("key", String, primary_key=True),
        name("model", primary_key=True),
        Column("version", Integer, primary_key=True, autoincrement=False),
        Column("unit", String(16), primary_key=True),
        Column("currency", String(8), primary_key=True),
        Column("known", String(16), primary_key=True),
        Column("outcome", String(16), primary_key=True),
        Column("calls", BIG, nullable=False),
        Column("rows", BIG, nullable=False),
        Column("amount", BIG, nullable=False),
        Column("cost", BIG, nullable=False),
        Column("took_us", BIG, nullable=False),
    )


usage_hours = _sums("usage_hours")
usage_days = _sums("usage_days")

# Calls for whose events there was no room, as their spool has counted them.
usage_unrecorded = Table(
    "usage_unrecorded",
    metadata,
    Column("spool", String(32), primary_key=True),
    Column("hour", Instant, primary_key=True),
    Column("tenant", String, primary_key=True),
    Column("key", String, primary_key=True),
    name("model", primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("calls", BIG, nullable=False),
)
