"""The schema, as the code sees it. The migrations make it, and a test holds the two together."""

import datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)

HEAD: Final = "0001"
"""The newest migration. Comparing it is why an up-to-date registry opens without Alembic."""

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


class Instant(TypeDecorator[datetime.datetime]):
    """A moment in UTC; SQLite keeps no zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_result_value(
        self, value: datetime.datetime | None, dialect: Dialect
    ) -> datetime.datetime | None:
        """Give a moment its zone."""
        if value is None:
            return None
        if value.tzinfo is None:
            return value.replace(tzinfo=datetime.UTC)
        return value.astimezone(datetime.UTC)


# SQLite counts up by itself only in a column that is called INTEGER, which has 64 bits there.
_BIG: Final = BigInteger().with_variant(Integer(), "sqlite")


def _name(column: str, *arguments: Any, **options: Any) -> Column[str]:
    return Column(column, String(128), *arguments, **options)


# One row, made with the registry: by it a home knows whose blobs it holds.
identity = Table("identity", metadata, Column("id", String(32), primary_key=True))

models = Table(
    "models",
    metadata,
    _name("name", primary_key=True),
    Column("created", Instant, nullable=False),
)

# `files` lists path, sha256 and size of every blob, the manifest's among them: what a bundle
# needs stays known when its manifest is damaged, and a repair can never take it for a leftover.
bundles = Table(
    "bundles",
    metadata,
    Column("digest", String(71), primary_key=True),
    Column("files", JSON, nullable=False),
    Column("created", Instant, nullable=False),
)

versions = Table(
    "versions",
    metadata,
    _name("model", ForeignKey("models.name"), primary_key=True),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("digest", String(71), ForeignKey("bundles.digest"), nullable=False),
    Column("state", String(16), nullable=False),
    Column("created", Instant, nullable=False),
    Column("actor", String, nullable=False),
    UniqueConstraint("model", "digest"),
)

aliases = Table(
    "aliases",
    metadata,
    _name("model", primary_key=True),
    _name("alias", primary_key=True),
    Column("number", Integer, nullable=False),
    ForeignKeyConstraint(["model", "number"], ["versions.model", "versions.number"]),
)

# A route is its newest change. `targets` is a list of {"version", "weight"}, so that a canary is
# two of them; null takes the route away. `before` is the change that a rollback goes back to: the
# history is a stack that is never overwritten, as each rollback continues from its target's own
# `before`.
route_changes = Table(
    "route_changes",
    metadata,
    Column("generation", _BIG, primary_key=True, autoincrement=False),
    _name("model", ForeignKey("models.name"), nullable=False, index=True),
    Column("action", String(16), nullable=False),
    Column("targets", JSON(none_as_null=True)),
    Column("before", _BIG, ForeignKey("route_changes.generation")),
    Column("changed", Instant, nullable=False),
    Column("actor", String, nullable=False),
    Column("reason", String, nullable=False),
)

routes = Table(
    "routes",
    metadata,
    _name("model", ForeignKey("models.name"), primary_key=True),
    Column("generation", _BIG, ForeignKey("route_changes.generation"), nullable=False, unique=True),
)

audit = Table(
    "audit",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    Column("at", Instant, nullable=False),
    Column("actor", String, nullable=False),
    Column("action", String(32), nullable=False),
    _name("model", index=True),
    Column("number", Integer),
    Column("reason", String, nullable=False),
    Column("details", JSON, nullable=False),
    sqlite_autoincrement=True,
)
