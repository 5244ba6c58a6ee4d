"""Databases of every kind, and processes that may die."""

import multiprocessing
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

pytest.register_assert_rewrite("modelyard.testing.blob_store", "modelyard.testing.registry")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of every kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'home' / 'registry.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.fixture(scope="session")
def processes() -> BaseContext:
    """Makes clean processes in milliseconds: forks of a server that has imported it all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "pytest",
            "modelyard.testing.crash",
            "modelyard.testing.processes",
            "psycopg",
            "alembic.command",
        ]
    )
    return context
