"""The migrations make the schema that the code expects, on both databases."""

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text

from modelyard.core.errors import Conflict
from modelyard.registry.database import Database
from modelyard.registry.tables import HEAD, metadata


def test_migrations_and_tables_agree(database_url: str) -> None:
    """Alembic finds no difference between a migrated database and `tables.py`."""
    Database.open(database_url).close()
    engine = create_engine(database_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_the_head_is_the_newest_migration() -> None:
    """The constant that spares us Alembic is kept up to date."""
    config = Config()
    config.set_main_option("script_location", "modelyard.registry:migrations")
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


def test_a_newer_schema_is_refused(database_url: str) -> None:
    """A registry that a newer Modelyard wrote is left alone, and the message says what to do."""
    Database.open(database_url).close()
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(Conflict, match="upgrade Modelyard") as caught:
        Database.open(database_url)
    assert caught.value.code == "unknown_schema"
    with engine.connect() as connection:
        assert (
            connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "9999"
        )
    engine.dispose()
