"""`modelyard bundle`: what is in it, whether it is whole, and how it travels."""

from pathlib import Path
from typing import Any


def damage(path: Path) -> None:
    path.chmod(0o644)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def blob_of(modelyard: Any, file: str) -> Path:
    manifest = modelyard.json("bundle", "show", "leavers:1")
    [sha256] = [entry["sha256"] for entry in manifest["files"] if entry["path"] == file]
    return Path(modelyard.home / "blobs" / "sha256" / sha256)


def test_a_bundle_is_shown(leavers: Any) -> None:
    """In words for people, as its manifest for programs."""
    manifest = leavers.json("bundle", "show", "leavers@champion")
    assert manifest["serving"]["path"] == "model.onnx"
    text = leavers("bundle", "show", "leavers@champion").stdout.decode()
    assert "model.onnx (onnx)" in text
    assert "code BYTES [-1, 1]" in text


def test_a_whole_bundle_is_verified(leavers: Any) -> None:
    """Every byte is read and held against its digest."""
    assert leavers.json("bundle", "verify", "leavers:1")["whole"] is True
    assert b"files whole" in leavers("bundle", "verify", "leavers").stdout


def test_a_flipped_bit_is_named(leavers: Any) -> None:
    """Verify, predict and doctor all refuse, and name the file."""
    damage(blob_of(leavers, "model.onnx"))
    for arguments in (("bundle", "verify", "leavers:1"), ("predict", "leavers:1", "--input", "-")):
        [line] = leavers(*arguments, status=1).stderr.decode().splitlines()
        assert line.startswith("error: 'model.onnx' is damaged")
    told = leavers("doctor", status=1).stdout.decode()
    assert "'model.onnx' of leavers:1 is damaged" in told


def test_a_bundle_travels_in_one_file(leavers: Any, command_at: Any, tmp_path: Path) -> None:
    """Export, verify, look into and import it elsewhere: the same digest all the way."""
    file = tmp_path / "leavers.tar"
    exported = leavers.json("bundle", "export", "leavers:2", file)
    assert exported["size_bytes"] == file.stat().st_size
    other = command_at(tmp_path / "other")
    assert other.json("bundle", "verify", file)["digest"] == exported["digest"]
    assert other.json("bundle", "show", file)["name"] == "leavers"
    imported = other.json("bundle", "import", file)
    assert (imported["model"], imported["number"]) == ("leavers", 1)
    assert imported["digest"] == exported["digest"]


def test_a_damaged_file_is_refused_by_name(leavers: Any, command_at: Any, tmp_path: Path) -> None:
    """Whatever bit is flipped, nothing of it gets in."""
    file = tmp_path / "leavers.tar"
    leavers("bundle", "export", "leavers:1", file)
    damage(file)
    other = command_at(tmp_path / "other")
    for verb in ("verify", "import"):
        [line] = other("bundle", verb, file, status=1).stderr.decode().splitlines()
        assert "is damaged in leavers.tar" in line
    assert other.json("models") == []
