"""The registry keeps its promises on every database."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.testing.memory import MemoryBlobStore
from modelyard.testing.registry import RegistrySuite


class TestSqliteRegistry(RegistrySuite):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> Iterator[Registry]:
        home = tmp_path / "home"
        with Registry.open(f"sqlite:///{home / 'registry.db'}", LocalBlobStore(home)) as registry:
            yield registry


class TestMemoryRegistry(RegistrySuite):
    @pytest.fixture
    def registry(self, tmp_path: Path) -> Iterator[Registry]:
        blobs = MemoryBlobStore()
        with Registry.open("sqlite://", blobs) as registry:
            yield registry
        blobs.close()


class TestPostgresRegistry(RegistrySuite):
    @pytest.fixture
    def registry(self, tmp_path: Path, postgres_url: str) -> Iterator[Registry]:
        with Registry.open(postgres_url, LocalBlobStore(tmp_path / "home")) as registry:
            yield registry

    def test_a_lost_connection_is_replaced(self, registry: Registry, postgres_server: str) -> None:
        """When the server drops everybody, the next question is answered over a new connection."""
        assert registry.generation() == 0
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            dropped = connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname LIKE 'test\\_%' AND pid <> pg_backend_pid()"
            ).fetchall()
        assert dropped
        assert registry.generation() == 0
