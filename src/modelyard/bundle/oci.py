"""A bundle as an OCI image with the media types of CNCF ModelPack, so that any registry takes it.

Everything follows from the bundle's manifest, byte for byte: the same bundle is the same image
wherever it is made. Importing an archive relies on that, so what is made of a schema's bundles
here is as fixed as the schema itself.

https://github.com/modelpack/model-spec, config and annotations of version 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from modelyard.bundle.digest import PREFIX, canonical_json, sha256_bytes
from modelyard.bundle.manifest import MANIFEST_PATH, Manifest

LAYOUT_FILE: Final = "oci-layout"
INDEX_FILE: Final = "index.json"
LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'

MANIFEST_TYPE: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE: Final = "application/vnd.oci.image.index.v1+json"
ARTIFACT_TYPE: Final = "application/vnd.cncf.model.manifest.v1+json"
CONFIG_TYPE: Final = "application/vnd.cncf.model.config.v1+json"

SIGNATURE_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"

FILE_PATH: Final = "org.cncf.model.filepath"
BUNDLE_DIGEST: Final = "io.modelyard.bundle.digest"

_DOCUMENTS: Final = frozenset({".md", ".txt", ".svg", ".png", ".jpg", ".html", ".pdf"})
_CODE: Final = frozenset({".toml", ".py", ".sql"})
_SETTINGS: Final = frozenset({".json", ".yaml", ".yml"})


@dataclass(frozen=True, slots=True)
class Image:
    """An image's own files; its layers are the bundle's files and `bundle.json`.

    Each of `referrers` is the manifest of one signature, which refers to `manifest` as its subject.
    """

    config: bytes
    manifest: bytes
    index: bytes
    referrers: tuple[bytes, ...] = ()


def make_image(bundle: Manifest, signatures: Sequence[bytes] = ()) -> Image:
    """The image of a bundle, and what refers to it."""
    layers = _layers(bundle)
    config = canonical_json(_config(bundle, [str(layer["digest"]) for layer in layers]))
    manifest = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": _descriptor(CONFIG_TYPE, config),
            "layers": layers,
            "annotations": {
                BUNDLE_DIGEST: bundle.digest,
                "org.opencontainers.image.created": bundle.created,
                "org.opencontainers.image.title": bundle.name,
            },
        }
    )
    listed = _descriptor(MANIFEST_TYPE, manifest)
    listed["artifactType"] = ARTIFACT_TYPE
    listed["annotations"] = {
        BUNDLE_DIGEST: bundle.digest,
        "org.opencontainers.image.ref.name": bundle.name,
    }
    referrers = tuple(_referrer(manifest, each) for each in signatures)
    index = canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": INDEX_TYPE,
            "manifests": [listed, *map(_listed_referrer, referrers)],
        }
    )
    return Image(config, manifest, index, referrers)


def _referrer(image: bytes, signature: bytes) -> bytes:
    held = _descriptor(SIGNATURE_TYPE, signature)
    return canonical_json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": SIGNATURE_TYPE,
            # The layer again: an empty one would be a blob of its own in every archive.
            "config": held,
            "layers": [held],
            "subject": _descriptor(MANIFEST_TYPE, image),
        }
    )


def _listed_referrer(referrer: bytes) -> dict[str, object]:
    return _descriptor(MANIFEST_TYPE, referrer) | {"artifactType": SIGNATURE_TYPE}


def _layers(bundle: Manifest) -> list[dict[str, object]]:
    own = _descriptor(_layer_type("weight.config"), bundle.encode())
    own["annotations"] = {FILE_PATH: MANIFEST_PATH}
    return [own] + [
        {
            "mediaType": _layer_type(_role(bundle, entry.path)),
            "digest": PREFIX + entry.sha256,
            "size": entry.size,
            "annotations": {FILE_PATH: entry.path},
        }
        for entry in bundle.files
    ]


def _config(bundle: Manifest, diff_ids: list[str]) -> dict[str, object]:
    descriptor: dict[str, object] = {"createdAt": bundle.created, "name": bundle.name}
    if bundle.card.licence:
        descriptor["licenses"] = [bundle.card.licence]
    if bundle.card.contacts:
        descriptor["authors"] = list(bundle.card.contacts)
    if bundle.card.intended_use:
        descriptor["description"] = bundle.card.intended_use
    return {
        "descriptor": descriptor,
        "config": {"format": str(bundle.serving.format)},
        # Layers are not compressed, so that each one's content is the layer itself.
        "modelfs": {"type": "layers", "diffIds": diff_ids},
    }


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {
        "mediaType": media_type,
        "digest": PREFIX + sha256_bytes(content),
        "size": len(content),
    }


def _layer_type(role: str) -> str:
    return f"application/vnd.cncf.model.{role}.v1.raw"


def _role(bundle: Manifest, path: str) -> str:
    suffix = PurePosixPath(path).suffix.lower()
    if path == bundle.serving.path:
        return "weight"
    if path == bundle.samples:
        return "dataset"
    if path in bundle.evaluation.plots or suffix in _DOCUMENTS:
        return "doc"
    if suffix in _CODE:
        return "code"
    return "weight.config" if suffix in _SETTINGS else "weight"
