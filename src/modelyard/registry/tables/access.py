"""Tenants, keys, identity mappings, limits, tariffs and the policy: what the gate goes by."""

from sqlalchemy import JSON, Column, ForeignKey, Integer, LargeBinary, String, Table

from modelyard.registry.tables.base import BIG, Instant, metadata, name

# One row: it grows with every change of any of the tables below, so that one cheap look tells
# whether anything has changed.
access_sequence = Table(
    "access_sequence",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("number", BIG, nullable=False),
)

# One that was removed keeps its row: its keys, limits and usage still say whose they were.
tenants = Table(
    "tenants",
    metadata,
    name("name", primary_key=True),
    Column("models", JSON, nullable=False),
    Column("created", Instant, nullable=False),
    Column("removed", Instant),
)

# `digest` is the SHA-256 of `salt` and the secret, which is nowhere. `verbs` null means all.
keys = Table(
    "keys",
    metadata,
    Column("id", String(12), primary_key=True),
    name("tenant", ForeignKey("tenants.name"), nullable=False, index=True),
    name("name", nullable=False),
    Column("role", String(16), nullable=False),
    Column("models", JSON, nullable=False),
    Column("verbs", JSON(none_as_null=True)),
    Column("salt", LargeBinary, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("created", Instant, nullable=False),
    Column("expires", Instant),
    Column("revoked", Instant),
    Column("replaces", String(12), nullable=False),
)

# `claims` is a list of [claim, value]. `number` is the order in which they were made.
mappings = Table(
    "identity_mappings",
    metadata,
    Column("number", BIG, primary_key=True, autoincrement=True),
    Column("id", String(12), nullable=False, unique=True),
    Column("source", String, nullable=False),
    Column("claims", JSON, nullable=False),
    Column("role", String(16), nullable=False),
    Column("models", JSON, nullable=False),
    Column("verbs", JSON(none_as_null=True)),
    name("tenant", nullable=False),
    Column("tenant_claim", String, nullable=False),
    sqlite_autoincrement=True,
)

limits = Table(
    "limits",
    metadata,
    name("id", primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("amount", BIG, nullable=False),
    Column("unit", String(16), nullable=False),
    name("tenant", nullable=False),
    name("key", nullable=False),
    name("models", nullable=False),
    Column("per", JSON, nullable=False),
    Column("period", String(16), nullable=False),
    Column("burst", BIG, nullable=False),
)

tariffs = Table(
    "tariffs",
    metadata,
    name("models", primary_key=True),
    Column("unit", String(16), nullable=False),
    Column("nano", BIG, nullable=False),
    Column("currency", String(8), nullable=False),
)

# At most one row: the document, and its version, which grows with every change.
policy = Table(
    "policy",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", Integer, nullable=False),
    Column("document", JSON, nullable=False),
)
