"""Administrations of both kinds keep what the port promises."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.client.administration import RemoteAdministration
from modelyard.core.config import Config
from modelyard.core.identity import Actor
from modelyard.testing.administered import administered
from modelyard.testing.administration import AdministrationSuite, Place
from modelyard.wiring.administration import make_administration, make_reception
from modelyard.wiring.registry import open_registry


class TestHere(AdministrationSuite):
    """On the machine itself."""

    @pytest.fixture
    def place(self, tmp_path: Path, database_url: str) -> Iterator[Place]:
        config = Config(home=tmp_path / "home", database_url=database_url)
        with open_registry(config) as registry:
            actor = Actor(name="ann", source="local")
            yield Place(make_administration(config, registry, actor), registry)


class TestElsewhere(AdministrationSuite):
    """Over the network, with a key."""

    @pytest.fixture
    def place(self, tmp_path: Path, database_url: str) -> Iterator[Place]:
        config = Config(home=tmp_path / "home", database_url=database_url)
        with open_registry(config) as registry:
            key = registry.keys.create(name="ann", role="admin", actor="test").text
            with (
                administered(registry, make_reception(config, registry)) as server,
                RemoteAdministration(server.url, key) as remote,
            ):
                yield Place(remote, registry)
