"""Tenants, keys, identity mappings, limits, tariffs and the policy."""

import datetime

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables, with the default tenant, and without keys."""
    sequence = op.create_table(
        "access_sequence",
        sa.Column("id", sa.Integer(), autoincrement=False),
        sa.Column("number", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_access_sequence"),
    )
    op.bulk_insert(sequence, [{"id": 1, "number": 1}])
    _make_tenants()
    _make_keys()
    _make_mappings()
    _make_limits()
    op.create_table(
        "policy",
        sa.Column("id", sa.Integer(), autoincrement=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("document", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_policy"),
    )


def _make_tenants() -> None:
    tenants = op.create_table(
        "tenants",
        sa.Column("name", sa.String(128)),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("created", _INSTANT, nullable=False),
        sa.Column("removed", _INSTANT),
        sa.PrimaryKeyConstraint("name", name="pk_tenants"),
    )
    now = datetime.datetime.now(datetime.UTC)
    op.bulk_insert(tenants, [{"name": "default", "models": ["*"], "created": now}])


def _make_keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(12)),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("verbs", sa.JSON(none_as_null=True)),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("digest", sa.LargeBinary(), nullable=False),
        sa.Column("created", _INSTANT, nullable=False),
        sa.Column("expires", _INSTANT),
        sa.Column("revoked", _INSTANT),
        sa.Column("replaces", sa.String(12), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.ForeignKeyConstraint(["tenant"], ["tenants.name"], name="fk_keys_tenants"),
    )
    op.create_index("ix_keys_tenant", "keys", ["tenant"])


def _make_mappings() -> None:
    op.create_table(
        "identity_mappings",
        sa.Column("number", _BIG, autoincrement=True),
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("source", sa.String(), nullable=False),
        sa.Column("claims", sa.JSON(), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("models", sa.JSON(), nullable=False),
        sa.Column("verbs", sa.JSON(none_as_null=True)),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("tenant_claim", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_identity_mappings"),
        sa.UniqueConstraint("id", name="uq_identity_mappings_id"),
        sqlite_autoincrement=True,
    )


def _make_limits() -> None:
    op.create_table(
        "limits",
        sa.Column("id", sa.String(128)),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("amount", _BIG, nullable=False),
        sa.Column("unit", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("models", sa.String(128), nullable=False),
        sa.Column("per", sa.JSON(), nullable=False),
        sa.Column("period", sa.String(16), nullable=False),
        sa.Column("burst", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_limits"),
    )
    op.create_table(
        "tariffs",
        sa.Column("models", sa.String(128)),
        sa.Column("unit", sa.String(16), nullable=False),
        sa.Column("nano", _BIG, nullable=False),
        sa.Column("currency", sa.String(8), nullable=False),
        sa.PrimaryKeyConstraint("models", name="pk_tariffs"),
    )
