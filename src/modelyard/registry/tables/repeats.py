"""Answers to requests that may be sent again."""

from sqlalchemy import Column, Index, LargeBinary, String, Table

from modelyard.registry.tables.base import Instant, metadata

_DIGEST = 64

# `mark` is the digest of who asked and of the key that they gave the request, `request` that of
# what they asked for: neither can be read back from here.
repeats = Table(
    "repeats",
    metadata,
    Column("mark", String(_DIGEST), primary_key=True),
    Column("request", String(_DIGEST), nullable=False),
    Column("answer", LargeBinary, nullable=False),
    Column("at", Instant, nullable=False),
    Index("ix_repeats_at", "at"),
)
