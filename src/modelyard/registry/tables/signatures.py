"""Signatures of bundles, which lie beside them."""

from sqlalchemy import Column, ForeignKey, LargeBinary, String, Table

from modelyard.registry.tables.base import Instant, metadata

# `sha256` is that of `content`; `signer` the fingerprint of the key that it names, unproven.
signatures = Table(
    "signatures",
    metadata,
    Column("digest", String(71), ForeignKey("bundles.digest"), primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("signer", String(64), nullable=False),
    Column("content", LargeBinary, nullable=False),
    Column("created", Instant, nullable=False),
    Column("actor", String, nullable=False),
)
