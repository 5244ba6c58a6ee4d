"""Models, bundles, versions, aliases, routes and audit, and the triggers that keep history true."""

import uuid

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_BIG = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_INSTANT = sa.DateTime(timezone=True)

_APPEND_ONLY = {
    "identity": "id",
    "models": "name",
    "bundles": "digest",
    "versions": "model, number",
    "route_changes": "generation",
    "audit": "id",
}


def upgrade() -> None:
    """Make the first tables."""
    identity = op.create_table(
        "identity",
        sa.Column("id", sa.String(32)),
        sa.PrimaryKeyConstraint("id", name="pk_identity"),
    )
    op.bulk_insert(identity, [{"id": uuid.uuid4().hex}])
    _make_versions()
    _make_routes()
    op.create_table(
        "audit",
        sa.Column("id", _BIG, primary_key=True, autoincrement=True),
        sa.Column("at", _INSTANT, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(32), nullable=False),
        sa.Column("model", sa.String(128)),
        sa.Column("number", sa.Integer()),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_model", "audit", ["model"])
    if op.get_bind().dialect.name == "postgresql":
        _guard_postgresql()
    else:
        _guard_sqlite()


def _make_versions() -> None:
    op.create_table(
        "models",
        sa.Column("name", sa.String(128)),
        sa.Column("created", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_models"),
    )
    op.create_table(
        "bundles",
        sa.Column("digest", sa.String(71)),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("created", _INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_bundles"),
    )
    op.create_table(
        "versions",
        sa.Column("model", sa.String(128)),
        sa.Column("number", sa.Integer(), autoincrement=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created", _INSTANT, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("model", "number", name="pk_versions"),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_versions_models"),
        sa.ForeignKeyConstraint(["digest"], ["bundles.digest"], name="fk_versions_bundles"),
        sa.UniqueConstraint("model", "digest", name="uq_versions_model_digest"),
    )
    op.create_table(
        "aliases",
        sa.Column("model", sa.String(128)),
        sa.Column("alias", sa.String(128)),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("model", "alias", name="pk_aliases"),
        sa.ForeignKeyConstraint(
            ["model", "number"], ["versions.model", "versions.number"], name="fk_aliases_versions"
        ),
    )


def _make_routes() -> None:
    op.create_table(
        "route_changes",
        sa.Column("generation", _BIG, autoincrement=False),
        sa.Column("model", sa.String(128), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("targets", sa.JSON(none_as_null=True)),
        sa.Column("before", _BIG),
        sa.Column("changed", _INSTANT, nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("generation", name="pk_route_changes"),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_route_changes_models"),
        sa.ForeignKeyConstraint(
            ["before"], ["route_changes.generation"], name="fk_route_changes_route_changes"
        ),
    )
    op.create_index("ix_route_changes_model", "route_changes", ["model"])
    op.create_table(
        "routes",
        sa.Column("model", sa.String(128)),
        sa.Column("generation", _BIG, nullable=False),
        sa.PrimaryKeyConstraint("model", name="pk_routes"),
        sa.ForeignKeyConstraint(["model"], ["models.name"], name="fk_routes_models"),
        sa.ForeignKeyConstraint(
            ["generation"], ["route_changes.generation"], name="fk_routes_route_changes"
        ),
        sa.UniqueConstraint("generation", name="uq_routes_generation"),
    )


def _guard_sqlite() -> None:
    for table, key in _APPEND_ONLY.items():
        same = " AND ".join(f"{column} = NEW.{column}" for column in key.split(", "))
        refuse = f"BEGIN SELECT RAISE(ABORT, 'rows of {table} are never changed'); END"
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
        # INSERT OR REPLACE deletes a row without asking the delete trigger.
        op.execute(
            f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} "  # noqa: S608
            f"WHEN EXISTS (SELECT 1 FROM {table} WHERE {same}) {refuse}"
        )


def _guard_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION modelyard_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ "
        "BEGIN RAISE EXCEPTION 'rows of % are never changed', TG_TABLE_NAME "
        "USING ERRCODE = 'integrity_constraint_violation'; END $$"
    )
    for table in _APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION modelyard_refuse()"
        )
