"""A registry that an older Modelyard wrote is brought up to date with everything in it."""

from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import IntegrityError

from modelyard.core.route import Options, Target
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry

_ROWS = (
    "INSERT INTO models VALUES ('churn', :at)",
    "INSERT INTO bundles VALUES ('sha256:1', '[]', :at), ('sha256:2', '[]', :at)",
    "INSERT INTO versions VALUES ('churn', 1, 'sha256:1', 'accepted', :at, 'ann'), "
    "('churn', 2, 'sha256:2', 'accepted', :at, 'ann')",
    "INSERT INTO route_changes VALUES "
    "(1, 'churn', 'deploy', :one, NULL, :at, 'ann', 'first'), "
    "(2, 'churn', 'deploy', :two, 1, :at, 'ann', 'second')",
    "INSERT INTO routes VALUES ('churn', 2)",
    "INSERT INTO audit (at, actor, action, model, number, reason, details) "
    "VALUES (:at, 'ann', 'publish', 'churn', 1, '', '{}'), "
    "(:at, 'ann', 'publish', 'churn', 2, '', '{}'), "
    "(:at, 'ann', 'deploy', 'churn', 2, 'second', '{}')",
)


def write_0001(url: str) -> None:
    """A registry as version 0.1 left it: two versions, deployed one after the other."""
    if url.startswith("sqlite"):
        Path(url.removeprefix("sqlite:///")).parent.mkdir(parents=True)
    engine = create_engine(url)
    values = {
        "at": "2026-11-01 12:00:00.000000",
        "one": '[{"version": 1, "weight": 100}]',
        "two": '[{"version": 2, "weight": 100}]',
    }
    with engine.begin() as connection:
        config = Config()
        config.set_main_option("script_location", "modelyard.registry:migrations")
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        for row in _ROWS:
            statement = text(row)
            names = statement.compile().params
            connection.execute(statement, {name: values[name] for name in names})
    engine.dispose()


def test_routes_of_the_first_schema_go_on(database_url: str, tmp_path: Path) -> None:
    """Routes, history and audit read as before; a rollback, a canary and options work on them."""
    write_0001(database_url)
    with Registry.open(database_url, LocalBlobStore(tmp_path / "home")) as registry:
        [route] = registry.routes()
        assert (route.targets, route.shadow, route.sticky) == ((Target(2),), None, "")
        assert (route.options, route.generation) == (Options(), 2)
        assert [change.number for change in registry.route_history("churn")] == [1, 2]
        assert [row.reason for row in registry.audit()] == ["second", "", ""]
        assert registry.rollouts.of("churn") == []
        registry.deploy("churn", 1, canary=5.0, actor="ann", options={"lanes": 1})
        assert registry.rollback("churn", actor="ann").says(route)
        assert registry.rollback("churn", actor="ann").number == 1


def test_history_stays_as_it_is_after_an_upgrade(database_url: str, tmp_path: Path) -> None:
    """The database goes on refusing to rewrite changes of routes, and moves of roll-outs."""
    write_0001(database_url)
    Registry.open(database_url, LocalBlobStore(tmp_path / "home")).close()
    engine = create_engine(database_url)
    for statement in (
        "UPDATE route_changes SET sticky = 'x-user'",
        "DELETE FROM route_changes",
    ):
        with pytest.raises(IntegrityError, match="never changed"), engine.begin() as connection:
            connection.execute(text(statement))
    engine.dispose()


def test_the_audit_of_the_first_schema_gets_a_chain(database_url: str, tmp_path: Path) -> None:
    """What was written before hangs together from now on, beside what is written after."""
    write_0001(database_url)
    with Registry.open(database_url, LocalBlobStore(tmp_path / "home")) as registry:
        registry.rollback("churn", actor="ann")
        verdict = registry.trail.verify()
        assert verdict.is_whole
        assert [(chain.node, chain.rows) for chain in verdict.chains] == [
            ("earlier", 3),
            ("unnamed", 1),
        ]
        assert [row.subject for row in registry.audit()] == ["churn"] * 4
