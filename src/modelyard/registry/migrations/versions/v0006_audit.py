"""A hash chain over the audit, signed checkpoints, and approvals."""

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
