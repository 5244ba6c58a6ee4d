"""The audit."""

from sqlalchemy import JSON, Column, Integer, String, Table

from modelyard.registry.tables.base import BIG, Instant, metadata, name

audit = Table(
    "audit",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String(32), nullable=False),
    name("model", index=True),
    Column("number", Integer),
    Column("reason", String, nullable=False),
    Column("details", JSON, nullable=False),
    sqlite_autoincrement=True,
)
