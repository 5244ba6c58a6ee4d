"""Captured payloads, and the keys that they are encrypted with."""

from sqlalchemy import Column, ForeignKey, Index, Integer, LargeBinary, String, Table

from modelyard.registry.tables.base import BIG, Instant, metadata, name

# A key for what is captured of a model about one subject, within a day. `subject` is a keyed digest
# and never a name; "" where payloads are about nobody. Without its row its payloads are noise.
payload_keys = Table(
    "payload_keys",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("subject", String(64), nullable=False),
    name("model", nullable=False),
    Column("opened", Instant, nullable=False),
    Column("master", String(16), nullable=False),
    Column("wrapped", LargeBinary, nullable=False),
    Index("ix_payload_keys_subject_model", "subject", "model"),
    sqlite_autoincrement=True,
)

payloads = Table(
    "payloads",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("key", BIG, ForeignKey("payload_keys.id"), nullable=False, index=True),
    Column("call", String(64), nullable=False),
    name("model", nullable=False, index=True),
    Column("number", Integer, nullable=False),
    name("tenant", nullable=False),
    name("caller", nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("rows", Integer, nullable=False),
    Column("at", Instant, nullable=False),
    Column("expires", Instant, nullable=False, index=True),
    Column("sealed", LargeBinary, nullable=False),
    sqlite_autoincrement=True,
)

# What was erased a moment ago: what is captured before and comes in only now is not kept.
payload_erasures = Table(
    "payload_erasures",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    Column("subject", String(64), nullable=False),
    name("model", nullable=False),
    Column("at", Instant, nullable=False, index=True),
    sqlite_autoincrement=True,
)
