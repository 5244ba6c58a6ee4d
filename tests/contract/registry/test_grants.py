"""A role that servers connect as can add to the history, and neither change nor remove it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, make_url, text
from sqlalchemy.exc import ProgrammingError

from modelyard.core.policy import Policy
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.database import Database
from modelyard.registry.grants import APPEND_ONLY, PASSING, grants_for
from modelyard.registry.registry import Registry
from modelyard.testing.bundles import make_bundle

_ROLE = 'modelyard "app"'


@pytest.fixture
def owner(postgres_url: str) -> Iterator[Engine]:
    """A registry, as the role that owns its tables sees it, with another role that uses it."""
    Database.open(postgres_url).close()
    engine = create_engine(postgres_url)
    quoted = '"' + _ROLE.replace('"', '""') + '"'
    with engine.begin() as connection:
        connection.execute(text(f"CREATE ROLE {quoted} LOGIN"))
        for statement in grants_for(_ROLE):
            connection.execute(text(statement))
    yield engine
    with engine.begin() as connection:
        connection.execute(text(f"DROP OWNED BY {quoted}"))
        connection.execute(text(f"DROP ROLE {quoted}"))
    engine.dispose()


def test_a_server_can_do_all_that_it_must(owner: Engine, postgres_url: str, tmp_path: Path) -> None:
    """It publishes, deploys, makes keys and policies, and its changes are in the chain."""
    url = make_url(postgres_url).set(username=_ROLE).render_as_string()
    with Registry.open(url, LocalBlobStore(tmp_path / "home")) as registry:
        registry.publish(make_bundle(tmp_path / "b"), actor="ann")
        registry.deploy("churn", actor="ann")
        registry.keys.create(name="ci", actor="ann")
        registry.policies.set(Policy(audit_calls=("churn",)), actor="ann")
        assert registry.trail.verify().is_whole
        assert len(registry.audit()) == 4


@pytest.mark.parametrize("table", ["audit", "route_changes", "versions"])
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE {0} SET actor = 'nobody'",
        "DELETE FROM {0}",
        "TRUNCATE {0} CASCADE",
        "ALTER TABLE {0} DISABLE TRIGGER ALL",
        "DROP TRIGGER {0}_no_change ON {0}",
        "ALTER TABLE {0} RENAME TO gone",
        "DROP TABLE {0} CASCADE",
        "CREATE OR REPLACE FUNCTION modelyard_refuse() RETURNS trigger LANGUAGE plpgsql "
        "AS $$ BEGIN RETURN NULL; END $$ -- {0}",
        "SET session_replication_role = replica -- {0}",
    ],
)
def test_it_cannot_rewrite_what_happened(
    owner: Engine, postgres_url: str, table: str, statement: str
) -> None:
    """Nor take away what keeps it from doing so."""
    engine = create_engine(make_url(postgres_url).set(username=_ROLE))
    with pytest.raises(ProgrammingError) as caught, engine.begin() as connection:
        connection.execute(text(statement.format(table)))
    engine.dispose()
    assert getattr(caught.value.orig, "sqlstate", "") == "42501"


def test_every_append_only_table_has_its_trigger(owner: Engine) -> None:
    """The grants and the triggers are about the same tables."""
    with owner.connect() as connection:
        guarded = connection.execute(
            text("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '%no_change'")
        )
        assert set(guarded.scalars()) == APPEND_ONLY | PASSING
