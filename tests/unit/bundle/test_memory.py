"""Folders in memory: private, swept, and refused where there is no memory to have them in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.bundle import memory
from modelyard.bundle.memory import memory_folder
from modelyard.core.errors import Unavailable


def _pretend(monkeypatch: pytest.MonkeyPatch, root: Path, *kinds: str) -> None:
    """Let the system say of what kind a folder is."""
    mounts = root.parent / "mountinfo"
    mounts.write_text(
        "".join(f"1 2 0:3 / {root} rw,relatime shared:1 - {kind} src rw\n" for kind in kinds)
    )
    monkeypatch.setattr(memory, "_MOUNTS", mounts)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "shm"
    root.mkdir()
    return root


def test_a_folder_is_private_and_ends_with_its_block() -> None:
    """On this machine's own memory."""
    with memory_folder() as folder:
        (folder / "x").write_bytes(b"x")
        assert folder.stat().st_mode & 0o077 == 0
        assert folder.parent.parent.stat().st_mode & 0o077 == 0
    assert not folder.exists()


@pytest.mark.parametrize("kinds", [(), ("ext4",), ("tmpfs", "overlay")])
def test_what_is_not_in_memory_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...]
) -> None:
    """Also where a disk was mounted over it later."""
    _pretend(monkeypatch, root, *kinds)
    with pytest.raises(Unavailable, match="tmpfs") as caught, memory_folder(root):
        pass
    assert caught.value.code == "no_private_memory"


def test_a_folder_that_others_can_enter_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or that is a link to somewhere else: somebody was there first."""
    _pretend(monkeypatch, root, "tmpfs")
    own = root / f"modelyard-{os.geteuid()}"
    own.mkdir(mode=0o755)
    with pytest.raises(Unavailable, match="this user alone"), memory_folder(root):
        pass
    own.rmdir()
    own.symlink_to(root)
    with pytest.raises(Unavailable, match="this user alone"), memory_folder(root):
        pass


def test_what_a_killed_process_left_is_swept_by_the_next(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock went with it; one that still runs is left alone."""
    _pretend(monkeypatch, root, "tmpfs")
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from modelyard.bundle import memory\n"
        f"memory._MOUNTS = Path({str(memory._MOUNTS)!r})\n"
        f"with memory.memory_folder(Path({str(root)!r})) as folder:\n"
        "    (folder / 'model').write_bytes(b'in the clear')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False)
    assert list(root.rglob("model"))
    with memory_folder(root) as running:
        assert not list(root.rglob("model"))
        with memory_folder(root):
            assert running.is_dir()
