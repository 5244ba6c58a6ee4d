"""What `check` says about blobs that were damaged or lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.bundle.manifest import MANIFEST_PATH
from modelyard.core.errors import DamagedBundle
from modelyard.core.records import Problem
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.testing.bundles import make_bundle


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry.open("sqlite://", LocalBlobStore(tmp_path / "home")) as registry:
        yield registry


def _blob(home: Path, digest: str) -> Path:
    path = home / "blobs" / "sha256" / digest.removeprefix("sha256:")
    path.chmod(0o644)
    return path


@pytest.mark.parametrize("path", ["model.onnx", "notes.md", MANIFEST_PATH])
@pytest.mark.parametrize("problem", [Problem.DAMAGED_BLOB, Problem.MISSING_BLOB])
def test_a_damaged_or_missing_blob_is_named_kept_and_healed(
    registry: Registry, tmp_path: Path, path: str, problem: Problem
) -> None:
    """Check names file and version, repair takes nothing, publishing the bundle again mends it."""
    bundle = make_bundle(tmp_path / "b", files={"notes.md": b"hello"})
    version = registry.publish(bundle, actor="ann")
    digest = bundle.digest if path == MANIFEST_PATH else bundle.entry(path).sha256
    blob = _blob(tmp_path / "home", digest)
    if problem is Problem.MISSING_BLOB:
        blob.unlink()
    else:
        data = bytearray(blob.read_bytes())
        data[len(data) // 2] ^= 1
        blob.write_bytes(data)

    (finding,) = registry.check()
    assert (finding.problem, finding.path, finding.versions) == (problem, path, ("churn:1",))
    with pytest.raises(DamagedBundle) as caught:
        registry.bundle(version).verify()
    assert caught.value.field == path
    assert registry.repair() == []

    assert registry.publish(bundle, actor="ann") == version
    assert registry.check() == []
    registry.bundle(version).verify()


def test_a_damaged_manifest_does_not_doom_its_files(registry: Registry, tmp_path: Path) -> None:
    """What a bundle needs is known without its manifest, so a repair keeps it."""
    bundle = make_bundle(tmp_path / "b", files={"notes.md": b"hello"})
    registry.publish(bundle, actor="ann")
    _blob(tmp_path / "home", bundle.digest).write_bytes(b"{}")
    assert registry.repair() == []
    assert len(registry.check()) == 1


def test_a_blob_that_two_bundles_share_is_kept_for_both(registry: Registry, tmp_path: Path) -> None:
    """Damage of a shared file is told once for each bundle."""
    for name in ("churn", "iris"):
        registry.publish(make_bundle(tmp_path / name, name=name), actor="ann")
    shared = make_bundle(tmp_path / "again").entry("model.onnx").sha256
    _blob(tmp_path / "home", shared).write_bytes(b"x")
    findings = registry.check()
    assert [finding.versions for finding in findings] == [("churn:1",), ("iris:1",)]
