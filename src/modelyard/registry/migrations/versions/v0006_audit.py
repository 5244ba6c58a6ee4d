"""A hash chain over the audit, signed checkpoints, and approvals."""

import datetime

import sqlalchemy as sa
from alembic import op

from modelyard.registry.chain import GENESIS, hash_row, mark_row, plain_row

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)
_EARLIER = "earlier"
_APPEND_ONLY = ("audit", "audit_checkpoints", "audit_keys")


def upgrade() -> None:
    """Make the audit anew with its chain; what was written before becomes a chain of its own."""
    on_postgresql = op.get_bind().dialect.name == "postgresql"
    op.drop_index("ix_audit_model", "audit")
    op.rename_table("audit", "audit_unchained")
    if on_postgresql:
        op.execute("ALTER TABLE audit_unchained RENAME CONSTRAINT pk_audit TO pk_audit_unchained")
    table = _make_audit()
    _chain_earlier_rows(table)
    op.drop_table("audit_unchained")
    _make_checkpoints()
    _make_approvals()
    if on_postgresql:
        _guard_postgresql()
    else:
        _guard_sqlite()


def _make_audit() -> sa.Table:
    table = op.create_table(
        "audit",
        sa.Column("id", _BIG, autoincrement=False),
        sa.Column("node", sa.String(128), nullable=False),
        sa.Column("sequence", _BIG, nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("key", sa.String(128), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("source", sa.String(128), nullable=False),
        sa.Column("request_id", sa.String(128), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("model", sa.String(128)),
        sa.Column("number", sa.Integer()),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("before", sa.Text()),
        sa.Column("after", sa.Text()),
        sa.Column("details", sa.Text(), nullable=False),
        sa.Column("previous", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("marks", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_model", "audit", ["model"])
    op.create_index("ix_audit_at", "audit", ["at"])
    op.create_index("ix_audit_node_sequence", "audit", ["node", "sequence"], unique=True)
    return table


def _chain_earlier_rows(table: sa.Table) -> None:
    """Give what is there a chain: from now on a change of it is seen, none before is."""
    connection = op.get_bind()
    previous = GENESIS
    rows = connection.execute(
        sa.text(
            "SELECT at, actor, action, model, number, reason, CAST(details AS TEXT) AS details "
            "FROM audit_unchained ORDER BY id"
        ).columns(at=sa.DateTime(timezone=True))
    ).mappings()
    for sequence, row in enumerate(rows.all(), start=1):
        values = dict.fromkeys(("key", "tenant", "source", "request_id"), "") | dict(row)
        at = row["at"]
        # SQLite keeps no zone, and would drop any but UTC.
        at = at.replace(tzinfo=datetime.UTC) if at.tzinfo is None else at.astimezone(datetime.UTC)
        values |= {
            "at": at,
            "id": sequence,
            "node": _EARLIER,
            "sequence": sequence,
            "kind": "model",
            "subject": row["model"] or "",
            "before": None,
            "after": None,
        }
        plain = plain_row(values)
        values |= {"previous": previous, "marks": mark_row(plain)}
        previous = hash_row(plain, previous)
        connection.execute(sa.insert(table).values(**values, hash=previous))


def _make_checkpoints() -> None:
    op.create_table(
        "audit_checkpoints",
        sa.Column("id", _BIG, autoincrement=False),
        sa.Column("signer", sa.String(128), nullable=False),
        sa.Column("node", sa.String(128), nullable=False),
        sa.Column("sequence", _BIG, nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("signature", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_checkpoints"),
    )
    op.create_index("ix_audit_checkpoints_node_sequence", "audit_checkpoints", ["node", "sequence"])
    op.create_table(
        "audit_keys",
        sa.Column("id", sa.String(128)),
        sa.Column("public_key", sa.Text(), nullable=False),
        sa.Column("created", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_keys"),
    )


def _make_approvals() -> None:
    op.create_table(
        "approvals",
        sa.Column("id", _BIG, autoincrement=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("change", sa.JSON(), nullable=False),
        sa.Column("generation", _BIG, nullable=False),
        sa.Column("asked", _INSTANT, nullable=False),
        sa.Column("asked_by", sa.JSON(), nullable=False),
        sa.Column("asked_reason", sa.String(), nullable=False),
        sa.Column("expires", _INSTANT, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("decided", _INSTANT),
        sa.Column("decided_by", sa.JSON(none_as_null=True)),
        sa.Column("decided_reason", sa.String(), nullable=False),
        sa.Column("result", _BIG),
        sa.PrimaryKeyConstraint("id", name="pk_approvals"),
    )
    op.create_index("ix_approvals_model", "approvals", ["model"])
    op.create_index("ix_approvals_state", "approvals", ["state"])


def _guard_sqlite() -> None:
    for table in _APPEND_ONLY:
        refuse = f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed'); END"
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
        # INSERT OR REPLACE deletes a row without asking the delete trigger.
        twice = f"EXISTS (SELECT 1 FROM {table} WHERE id = NEW.id)"  # noqa: S608
        if table == "audit":
            twice += " OR EXISTS (SELECT 1 FROM audit "
            twice += "WHERE node = NEW.node AND sequence = NEW.sequence)"
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {twice} {refuse}"
        )


def _guard_postgresql() -> None:
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION modelyard_refuse()"
        )
