"""Usage events in batches, and their sums."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "usage_spools",
        sa.Column("spool", sa.String(32)),
        sa.Column("prefix", sa.String(32), nullable=False),
        sa.Column("position", _BIG, nullable=False),
        sa.Column("events", _BIG, nullable=False),
        sa.Column("damaged", _BIG, nullable=False),
        sa.Column("begun", _INSTANT, nullable=False),
        sa.Column("copied", _INSTANT, nullable=False),
        sa.Column("ended", _INSTANT),
        sa.PrimaryKeyConstraint("spool", name="pk_usage_spools"),
    )
    op.create_index("ix_usage_spools_prefix", "usage_spools", ["prefix"])
    _make_batches()
    _make_sums("usage_hours")
    _make_sums("usage_days")
    op.create_table(
        "usage_unrecorded",
        sa.Column("spool", sa.String(32)),
        sa.Column("hour", _INSTANT),
        sa.Column("tenant", sa.String()),
        sa.Column("key", sa.String()),
        sa.Column("model", sa.String(128)),
        sa.Column("version", sa.Integer(), autoincrement=False),
        sa.Column("calls", _BIG, nullable=False),
        sa.PrimaryKeyConstraint(
            *("spool", "hour", "tenant", "key", "model", "version"), name="pk_usage_unrecorded"
        ),
    )
    _guard_batches()


def _make_batches() -> None:
    op.create_table(
        "usage_batches",
        sa.Column("spool", sa.String(32)),
        sa.Column("first", _BIG, autoincrement=False),
        sa.Column("places", _BIG, nullable=False),
        sa.Column("events", _BIG, nullable=False),
        sa.Column("damaged", _BIG, nullable=False),
        sa.Column("low", _BIG, nullable=False),
        sa.Column("high", _BIG, nullable=False),
        sa.Column("since", _INSTANT, nullable=False),
        sa.Column("until", _INSTANT, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("subjects", sa.JSON(), nullable=False),
        sa.Column("records", sa.LargeBinary()),
        sa.PrimaryKeyConstraint("spool", "first", name="pk_usage_batches"),
        sa.ForeignKeyConstraint(
            ["spool"], ["usage_spools.spool"], name="fk_usage_batches_usage_spools"
        ),
    )
    op.create_index("ix_usage_batches_until", "usage_batches", ["until"])


def _make_sums(table: str) -> None:
    op.create_table(
        table,
        sa.Column("start", _INSTANT),
        sa.Column("tenant", sa.String()),
        sa.Column("key", sa.String()),
        sa.Column("model", sa.String(128)),
        sa.Column("version", sa.Integer(), autoincrement=False),
        sa.Column("unit", sa.String(16)),
        sa.Column("currency", sa.String(8)),
        sa.Column("known", sa.String(16)),
        sa.Column("outcome", sa.String(16)),
        sa.Column("calls", _BIG, nullable=False),
        sa.Column("rows", _BIG, nullable=False),
        sa.Column("amount", _BIG, nullable=False),
        sa.Column("cost", _BIG, nullable=False),
        sa.Column("took_us", _BIG, nullable=False),
        sa.PrimaryKeyConstraint(
            *("start", "tenant", "key", "model", "version"),
            *("unit", "currency", "known", "outcome"),
            name=f"pk_{table}",
        ),
    )


def _guard_batches() -> None:
    """Events go when their time is up; until then nobody changes them."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER usage_batches_no_change BEFORE UPDATE OR TRUNCATE ON usage_batches "
            "FOR EACH STATEMENT EXECUTE FUNCTION modelyard_refuse()"
        )
        return
    refuse = "BEGIN SELECT RAISE(ABORT, 'rows of usage_batches are never changed'); END"
    op.execute(f"CREATE TRIGGER usage_batches_no_update BEFORE UPDATE ON usage_batches {refuse}")
    replaced = "SELECT 1 FROM usage_batches WHERE spool = NEW.spool AND first = NEW.first"
    op.execute(
        "CREATE TRIGGER usage_batches_no_replace BEFORE INSERT ON usage_batches "
        f"WHEN EXISTS ({replaced}) {refuse}"
    )
