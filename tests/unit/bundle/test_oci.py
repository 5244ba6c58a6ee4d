"""The OCI image of a bundle."""

import hashlib
import json
from pathlib import Path

from modelyard.bundle.oci import make_image
from modelyard.testing.bundles import make_bundle


def test_the_image_follows_from_the_bundle_alone(tmp_path: Path) -> None:
    """The same manifest gives the same bytes."""
    manifest = make_bundle(tmp_path / "b").manifest
    assert make_image(manifest) == make_image(type(manifest).decode(manifest.encode()))


def test_every_file_is_a_layer_with_its_path(tmp_path: Path) -> None:
    """`bundle.json` too; digests and sizes are those of the manifest, roles those of ModelPack."""
    bundle = make_bundle(
        tmp_path / "b", files={"notes.md": b"hello", "recipe.toml": b"x", "a/labels.json": b"[]"}
    )
    image = make_image(bundle.manifest)
    manifest = json.loads(image.manifest)
    assert manifest["artifactType"] == "application/vnd.cncf.model.manifest.v1+json"
    assert manifest["annotations"]["io.modelyard.bundle.digest"] == bundle.digest
    layers = {
        layer["annotations"]["org.cncf.model.filepath"]: layer for layer in manifest["layers"]
    }
    assert layers.keys() == {"bundle.json", *bundle.files}
    assert layers["bundle.json"]["digest"] == bundle.digest
    for entry in bundle.manifest.files:
        assert layers[entry.path]["digest"] == f"sha256:{entry.sha256}"
        assert layers[entry.path]["size"] == entry.size
    roles = {path: layer["mediaType"].split("cncf.model.")[1] for path, layer in layers.items()}
    assert roles == {
        "bundle.json": "weight.config.v1.raw",
        "model.onnx": "weight.v1.raw",
        "notes.md": "doc.v1.raw",
        "recipe.toml": "code.v1.raw",
        "a/labels.json": "weight.config.v1.raw",
    }


def test_manifest_config_and_index_point_at_each_other(tmp_path: Path) -> None:
    """Every descriptor has the digest and size of what it describes."""
    image = make_image(make_bundle(tmp_path / "b").manifest)
    manifest, config = json.loads(image.manifest), json.loads(image.config)
    (listed,) = json.loads(image.index)["manifests"]
    for descriptor, content in ((manifest["config"], image.config), (listed, image.manifest)):
        assert descriptor["digest"] == f"sha256:{hashlib.sha256(content).hexdigest()}"
        assert descriptor["size"] == len(content)
    assert config["modelfs"]["diffIds"] == [layer["digest"] for layer in manifest["layers"]]
    assert config["config"]["format"] == "onnx"
