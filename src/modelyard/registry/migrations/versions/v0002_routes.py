"""Shadows, stickiness and options of routes; roll-outs, their moves and their figures."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Widen routes and make the tables of roll-outs."""
    # History is never changed, so what older changes lack comes from defaults.
    op.add_column("route_changes", sa.Column("shadow", sa.JSON(none_as_null=True)))
    op.add_column(
        "route_changes", sa.Column("sticky", sa.String(128), nullable=False, server_default="")
    )
    op.add_column(
        "route_changes", sa.Column("options", sa.JSON(), nullable=False, server_default="{}")
    )
    _make_rollouts()
    _make_moves()
    op.create_table(
        "rollout_figures",
        sa.Column("rollout", _BIG, autoincrement=False),
        sa.Column("worker", sa.String(128)),
        sa.Column("figures", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "worker", name="pk_rollout_figures"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_figures_rollouts"),
    )


def _make_rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", _BIG, autoincrement=True),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("stable", sa.Integer(), nullable=False),
        sa.Column("candidate", sa.Integer(), nullable=False),
        sa.Column("steps", sa.JSON(), nullable=False),
        sa.Column("every_s", sa.Double(), nullable=False),
        sa.Column("guards", sa.JSON(), nullable=False),
        sa.Column("least_calls", sa.Integer(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("started", _INSTANT, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("next_at", _INSTANT),
        sa.Column("ended", _INSTANT),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("origin", _BIG, nullable=False),
        sa.Column("since", sa.JSON(), nullable=False),
        sa.Column("leader", sa.String(128), nullable=False),
        sa.Column("lease_until", _INSTANT),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_rollouts_models"),
        sa.ForeignKeyConstraint(
            ["origin"], ["route_changes.generation"], name="fk_rollouts_route_changes"
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_rollouts_model", "rollouts", ["model"])
    op.create_index("ix_rollouts_state", "rollouts", ["state"])


def _make_moves() -> None:
    op.create_table(
        "rollout_moves",
        sa.Column("rollout", _BIG, autoincrement=False),
        sa.Column("number", sa.Integer(), autoincrement=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("percent", sa.Double(), nullable=False),
        sa.Column("readings", sa.JSON(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("rollout", "number", name="pk_rollout_moves"),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_rollout_moves_rollouts"),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER rollout_moves_no_change "
            "BEFORE UPDATE OR DELETE OR TRUNCATE ON rollout_moves "
            "FOR EACH STATEMENT EXECUTE FUNCTION modelyard_refuse()"
        )
        return
    refuse = "BEGIN SELECT RAISE(ABORT, 'rows of rollout_moves are never changed'); END"
    for name, event in (
        ("no_update", "UPDATE ON rollout_moves"),
        ("no_delete", "DELETE ON rollout_moves"),
        (
            "no_replace",
            "INSERT ON rollout_moves WHEN EXISTS (SELECT 1 FROM rollout_moves "
            "WHERE rollout = NEW.rollout AND number = NEW.number)",
        ),
    ):
        op.execute(f"CREATE TRIGGER rollout_moves_{name} BEFORE {event} {refuse}")
