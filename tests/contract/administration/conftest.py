"""The administration's suite runs on databases of every kind."""

from pathlib import Path

import pytest

pytest.register_assert_rewrite("modelyard.testing.administration")


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of every kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'home' / 'registry.db'}"
    return str(request.getfixturevalue("postgres_url"))
