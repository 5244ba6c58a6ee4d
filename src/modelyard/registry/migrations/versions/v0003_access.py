"""Tenants, keys, identity mappings, limits, tariffs and the policy."""

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
