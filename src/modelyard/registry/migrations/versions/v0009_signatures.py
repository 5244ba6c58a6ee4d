"""Signatures of bundles."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "signatures",
        sa.Column("digest", sa.String(71)),
        sa.Column("sha256", sa.String(64)),
        sa.Column("signer", sa.String(64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.Column("created", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("digest", "sha256", name="pk_signatures"),
        sa.ForeignKeyConstraint(["digest"], ["bundles.digest"], name="fk_signatures_bundles"),
    )
