"""Captured payloads, and the keys that they are encrypted with."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables. Nothing here is append-only: what is erased must be gone."""
    op.create_table(
        "payload_keys",
        sa.Column("id", _BIG, autoincrement=True),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("opened", _INSTANT, nullable=False),
        sa.Column("master", sa.String(16), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_payload_keys"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_payload_keys_subject_model", "payload_keys", ["subject", "model"])
    op.create_table(
        "payloads",
        sa.Column("id", _BIG, autoincrement=True),
        sa.Column("key", _BIG, nullable=False),
        sa.Column("call", sa.String(64), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("caller", sa.String(128), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("rows", sa.Integer(), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("expires", _INSTANT, nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_payloads"),
        sa.ForeignKeyConstraint(["key"], ["payload_keys.id"], name="fk_payloads_payload_keys"),
        sqlite_autoincrement=True,
    )
    for column in ("key", "model", "expires"):
        op.create_index(f"ix_payloads_{column}", "payloads", [column])
    op.create_table(
        "payload_erasures",
        sa.Column("id", _BIG, autoincrement=True),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_payload_erasures"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_payload_erasures_at", "payload_erasures", ["at"])
