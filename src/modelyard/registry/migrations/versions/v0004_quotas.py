"""Leases of quotas, what is spent of them, and the nodes that hold them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "quota_leases",
        sa.Column("subject", sa.String(32)),
        sa.Column("period", sa.String(16)),
        sa.Column("node", sa.String(128)),
        sa.Column("limit", sa.String(128), nullable=False),
        sa.Column("words", sa.String(), nullable=False),
        sa.Column("granted", _BIG, nullable=False),
        sa.Column("spent", _BIG, nullable=False),
        sa.Column("answered", _BIG, nullable=False),
        sa.Column("heard", _INSTANT, nullable=False),
        sa.Column("expires", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("subject", "period", "node", name="pk_quota_leases"),
    )
    op.create_index("ix_quota_leases_node", "quota_leases", ["node"])
    op.create_index("ix_quota_leases_limit", "quota_leases", ["limit"])
    op.create_table(
        "quota_wants",
        sa.Column("subject", sa.String(32)),
        sa.Column("period", sa.String(16)),
        sa.Column("number", _BIG, nullable=False),
        sa.Column("node", sa.String(128), nullable=False),
        sa.Column("until", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("subject", "period", name="pk_quota_wants"),
    )
    op.create_table(
        "nodes",
        sa.Column("name", sa.String(128)),
        sa.Column("started", _INSTANT, nullable=False),
        sa.Column("heard", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_nodes"),
    )
