"""The schema, as the code sees it. The migrations make it, and a test holds the two together."""

import datetime
from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    DateTime,
    Dialect,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)

HEAD: Final = "0002"
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
# two of them, the stable version first and weights in percent; null takes the route away. `shadow`
# is one of them too. `options` are those that are set, by name. `before` is the change that a
# rollback goes back to: the history is a stack that is never overwritten, as each rollback
# continues from its target's own `before`.
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
    Column("shadow", JSON(none_as_null=True)),
    _name("sticky", nullable=False, server_default=""),
    Column("options", JSON, nullable=False, server_default="{}"),
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

# `origin` is the change of the route that the roll-out began from, and to which it rolls back.
# `since` are the sums of the figures when the step began.
# `leader` may move it until `lease_until`.
rollouts = Table(
    "rollouts",
    metadata,
    Column("id", _BIG, primary_key=True, autoincrement=True),
    _name("model", ForeignKey("models.name"), nullable=False, index=True),
    Column("stable", Integer, nullable=False),
    Column("candidate", Integer, nullable=False),
    Column("steps", JSON, nullable=False),
    Column("every_s", Double, nullable=False),
    Column("guards", JSON, nullable=False),
    Column("least_calls", Integer, nullable=False),
    Column("actor", String, nullable=False),
    Column("started", Instant, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("step", Integer, nullable=False),
    Column("next_at", Instant),
    Column("ended", Instant),
    Column("reason", String, nullable=False),
    Column("origin", _BIG, ForeignKey("route_changes.generation"), nullable=False),
    Column("since", JSON, nullable=False),
    _name("leader", nullable=False),
    Column("lease_until", Instant),
    sqlite_autoincrement=True,
)

rollout_moves = Table(
    "rollout_moves",
    metadata,
    Column("rollout", _BIG, ForeignKey("rollouts.id"), primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("at", Instant, nullable=False),
    Column("verdict", String(16), nullable=False),
    Column("percent", Double, nullable=False),
    Column("readings", JSON, nullable=False),
    Column("reason", String, nullable=False),
)

# What each worker has counted since it first saw the roll-out; gone when the roll-out has ended.
rollout_figures = Table(
    "rollout_figures",
    metadata,
    Column("rollout", _BIG, ForeignKey("rollouts.id"), primary_key=True, autoincrement=False),
    _name("worker", primary_key=True),
    Column("figures", JSON, nullable=False),
)
