"""What is packaged here is published in the home, or sent to the server that is named."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from modelyard.cli.settings import Settings

if TYPE_CHECKING:
    from modelyard.bundle.bundle import Bundle
    from modelyard.bundle.manifest import Manifest
    from modelyard.core.records import Version

Build = Callable[[Path], "Bundle"]
"""Makes a bundle in an empty folder."""


@dataclass(frozen=True, slots=True)
class Published:
    """A version, and what its bundle says of it."""

    version: "Version"
    manifest: "Manifest"


def publish(settings: Settings, build: Build) -> Published:
    """Package, and publish."""
    return _send(settings, build) if settings.config().server else _keep(settings, build)


def deploy(settings: Settings, version: "Version") -> None:
    """Route calls to what was just published."""
    from modelyard.core.administration.routes import Deploy

    with settings.administration() as administration:
        administration.do(Deploy(model=version.model, number=version.number))


def _keep(settings: Settings, build: Build) -> Published:
    with settings.yard() as yard:
        version = yard.publish_built(build)
        return Published(version, yard.registry.bundle(version).manifest)


def _send(settings: Settings, build: Build) -> Published:
    import tempfile

    from modelyard.bundle.archive import export_bundle
    from modelyard.core.administration.models import Publish

    with tempfile.TemporaryDirectory(prefix="modelyard-") as folder:
        built, archive = Path(folder) / "bundle", Path(folder) / "bundle.tar"
        built.mkdir()
        bundle = build(built)
        export_bundle(bundle, archive)
        with settings.administration() as administration:
            return Published(administration.publish(Publish(), archive), bundle.manifest)
