"""Quotas: what is leased to nodes, which nodes there are, and who asks for leases back."""

from sqlalchemy import Column, Index, String, Table

from modelyard.registry.tables.base import BIG, Instant, metadata, name

_SUBJECT = 32
_PERIOD = 16

# What a node may still spend of a subject's quota in a period, and has spent: `granted` is all that
# it was ever given and has not given back. `subject` is the digest of the words in `words`.
# `answered` is the newest want that it has given back everything for.
quota_leases = Table(
    "quota_leases",
    metadata,
    Column("subject", String(_SUBJECT), primary_key=True),
    Column("period", String(_PERIOD), primary_key=True),
    name("node", primary_key=True),
    name("limit", nullable=False),
    Column("words", String, nullable=False),
    Column("granted", BIG, nullable=False),
    Column("spent", BIG, nullable=False),
    Column("answered", BIG, nullable=False),
    Column("heard", Instant, nullable=False),
    Column("expires", Instant, nullable=False),
    Index("ix_quota_leases_node", "node"),
    Index("ix_quota_leases_limit", "limit"),
)

# A node that found nothing left wants what others hold and do not use.
quota_wants = Table(
    "quota_wants",
    metadata,
    Column("subject", String(_SUBJECT), primary_key=True),
    Column("period", String(_PERIOD), primary_key=True),
    Column("number", BIG, nullable=False),
    name("node", nullable=False),
    Column("until", Instant, nullable=False),
)

# Which nodes are alive: rates and concurrencies are divided by their number.
nodes = Table(
    "nodes",
    metadata,
    name("name", primary_key=True),
    Column("started", Instant, nullable=False),
    Column("heard", Instant, nullable=False),
)
