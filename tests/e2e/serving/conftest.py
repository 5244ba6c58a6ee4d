"""One home and one server a test process; models are published into it from the test."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelyard import Client, Yard
from modelyard.core.names import Reference
from modelyard.core.records import Version
from tests.e2e.conftest import Server, serving


@dataclass(frozen=True)
class Place:
    """A home, the yard opened on it, and a server that follows it."""

    yard: Yard
    server: Server
    client: Client

    def publish(self, estimator: object, *, name: str, sample: object) -> Version:
        """Publish, deploy, and wait until the server answers with it."""
        version = self.yard.publish(estimator, name=name, sample=sample)
        self.deploy(version)
        return version

    def deploy(self, version: Version) -> None:
        """Deploy a version and wait until the server answers with it."""
        self.yard.deploy(Reference(version.model, version=version.number))
        self.wait_for(version.model, version.number)

    def wait_for(self, model: str, number: int) -> None:
        """Until the server serves this version; the test's time limit bounds it."""
        while not any(
            line["name"] == model and line["version"] == str(number) and line["state"] == "READY"
            for line in self.client.models()
        ):
            pass


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home: Path = tmp_path_factory.mktemp("serving") / "home"
    with (
        Yard.open(home) as yard,
        serving(home, MODELYARD_POLL_S="0.02") as server,
        Client(server.url) as client,
    ):
        yield Place(yard, server, client)
