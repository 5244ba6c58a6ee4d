"""The audit: rows in chains, signed checkpoints of them, and changes that wait for approval."""

from sqlalchemy import JSON, Column, Index, Integer, String, Table, Text

from modelyard.registry.tables.base import BIG, Instant, metadata, name

# `id` counts the rows of the registry, `sequence` those of a node, both from 1 and without a gap.
# `before`, `after` and `details` hold JSON, hashed letter by letter: see `registry.chain`.
audit = Table(
    "audit",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=False),
    name("node", nullable=False),
    Column("sequence", BIG, nullable=False),
    Column("at", Instant, nullable=False),
    Column("actor", String, nullable=False),
    name("key", nullable=False),
    name("tenant", nullable=False),
    name("source", nullable=False),
    name("request_id", nullable=False),
    Column("action", String(32), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("subject", String, nullable=False),
    name("model", index=True),
    Column("number", Integer),
    Column("reason", String, nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("details", Text, nullable=False),
    Column("previous", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("marks", String, nullable=False),
    Index("ix_audit_node_sequence", "node", "sequence", unique=True),
    Index("ix_audit_at", "at"),
)

# `signer` is the fingerprint of the key that signed, which is the name of the signing node.
audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=False),
    name("signer", nullable=False),
    name("node", nullable=False),
    Column("sequence", BIG, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("at", Instant, nullable=False),
    Column("signature", String, nullable=False),
    Index("ix_audit_checkpoints_node_sequence", "node", "sequence"),
)

audit_keys = Table(
    "audit_keys",
    metadata,
    name("id", primary_key=True),
    Column("public_key", Text, nullable=False),
    Column("created", Instant, nullable=False),
)

# `change` is the change as it will be made, `generation` that of the route it was asked for.
# Who asked and who decided are kept as `core.identity.Actor`.
approvals = Table(
    "approvals",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=False),
    name("model", nullable=False, index=True),
    Column("change", JSON, nullable=False),
    Column("generation", BIG, nullable=False),
    Column("asked", Instant, nullable=False),
    Column("asked_by", JSON, nullable=False),
    Column("asked_reason", String, nullable=False),
    Column("expires", Instant, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("decided", Instant),
    Column("decided_by", JSON(none_as_null=True)),
    Column("decided_reason", String, nullable=False),
    Column("result", BIG),
)
