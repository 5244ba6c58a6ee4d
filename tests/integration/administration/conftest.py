"""A server with an administration, and keys to it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from modelyard.core.config import Config
from modelyard.registry.registry import Registry
from modelyard.testing.administered import administered
from modelyard.testing.registry import publish
from modelyard.wiring.administration import make_reception
from modelyard.wiring.registry import open_registry


@dataclasses.dataclass(frozen=True)
class Place:
    """A server on a home with one deployed model, `churn`, and another, `iris`."""

    url: str
    home: Path
    registry: Registry

    def key(self, role: str = "admin", **scope: object) -> str:
        """A new key's text."""
        return self.registry.keys.create(name=role, role=role, actor="test", **scope).text  # type: ignore[arg-type]

    def client(self, key: str | None = None) -> httpx.Client:
        """Speaks with a key, by default an administrator's; with "" without any."""
        key = self.key() if key is None else key
        headers = {"authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url + "/api/v1", headers=headers, timeout=30.0)


@pytest.fixture(params=[False], ids=["keyed"])
def is_open(request: pytest.FixtureRequest) -> bool:
    """Whether the server lets callers in without a key."""
    return bool(request.param)


@pytest.fixture
def place(tmp_path: Path, is_open: bool) -> Iterator[Place]:
    config = Config(home=tmp_path / "home", max_bundle_bytes=1024 * 1024)
    with open_registry(config) as registry:
        for name in ("churn", "churn", "iris"):
            publish(registry, tmp_path, name=name)
        registry.deploy("churn", 1, actor="test")
        with administered(registry, make_reception(config, registry), is_open=is_open) as server:
            yield Place(server.url, config.home, registry)


@pytest.fixture
def admin(place: Place) -> Iterator[httpx.Client]:
    """An administrator's client."""
    with place.client() as client:
        yield client
