"""Manifests of versions, wherever these are administered."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from modelyard.bundle.manifest import Manifest
    from modelyard.core.administration.port import Administration
    from modelyard.core.records import Version


def read_manifest(administration: "Administration", version: "Version") -> "Manifest":
    """What a version is, where it came from, how good it is."""
    import msgspec

    from modelyard.bundle.manifest import Manifest
    from modelyard.core.administration.models import GetManifest

    plain = administration.do(GetManifest(reference=f"{version.model}:{version.number}"))
    return Manifest.decode(msgspec.json.encode(plain))
