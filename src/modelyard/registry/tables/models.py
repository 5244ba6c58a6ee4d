"""Models, versions, aliases, routes and roll-outs."""

from sqlalchemy import (
    JSON,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    String,
    Table,
    UniqueConstraint,
)

from modelyard.registry.tables.base import BIG, Instant, metadata, name

# One row, made with the registry: by it a home knows whose blobs it holds.
identity = Table("identity", metadata, Column("id", String(32), primary_key=True))

models = Table(
    "models",
    metadata,
    name("name", primary_key=True),
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
    name("model", ForeignKey("models.name"), primary_key=True),
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
    name("model", primary_key=True),
    name("alias", primary_key=True),
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
    Column("generation", BIG, primary_key=True, autoincrement=False),
    name("model", ForeignKey("models.name"), nullable=False, index=True),
    Column("action", String(16), nullable=False),
    Column("targets", JSON(none_as_null=True)),
    Column("before", BIG, ForeignKey("route_changes.generation")),
    Column("changed", Instant, nullable=False),
    Column("actor", String, nullable=False),
    Column("reason", String, nullable=False),
    Column("shadow", JSON(none_as_null=True)),
    name("sticky", nullable=False, server_default=""),
    Column("options", JSON, nullable=False, server_default="{}"),
)

routes = Table(
    "routes",
    metadata,
    name("model", ForeignKey("models.name"), primary_key=True),
    Column("generation", BIG, ForeignKey("route_changes.generation"), nullable=False, unique=True),
)

# `origin` is the change of the route that the roll-out began from, and to which it rolls back.
# `since` are the sums of the figures when the step began.
# `leader` may move it until `lease_until`.
rollouts = Table(
    "rollouts",
    metadata,
    Column("id", BIG, primary_key=True, autoincrement=True),
    name("model", ForeignKey("models.name"), nullable=False, index=True),
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
    Column("origin", BIG, ForeignKey("route_changes.generation"), nullable=False),
    Column("since", JSON, nullable=False),
    name("leader", nullable=False),
    Column("lease_until", Instant),
    sqlite_autoincrement=True,
)

rollout_moves = Table(
    "rollout_moves",
    metadata,
    Column("rollout", BIG, ForeignKey("rollouts.id"), primary_key=True, autoincrement=False),
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
    Column("rollout", BIG, ForeignKey("rollouts.id"), primary_key=True, autoincrement=False),
    name("worker", primary_key=True),
    Column("figures", JSON, nullable=False),
)
