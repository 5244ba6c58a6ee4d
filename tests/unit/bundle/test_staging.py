import os
import signal
import subprocess
import sys
from pathlib import Path

from modelyard.bundle.staging import abandoned_folders, staging_folder, sweep_folders

_BUILDER = """
import sys
from pathlib import Path
from modelyard.bundle.staging import staging_folder

with staging_folder(Path(sys.argv[1])) as folder:
    (folder / "model.onnx").write_bytes(b"half")
    print(folder, flush=True)
    sys.stdin.read()
"""


def test_a_staging_folder_goes_with_its_block(tmp_path: Path) -> None:
    """Nothing is left of a build that ended, well or not."""
    with staging_folder(tmp_path) as folder:
        (folder / "sub").mkdir()
        assert abandoned_folders(tmp_path) == []
    assert list((tmp_path / "staging").iterdir()) == []


def test_only_what_a_dead_process_left_is_swept(tmp_path: Path) -> None:
    """A running build is never taken for a leftover; a killed one always is."""
    builder = subprocess.Popen(
        [sys.executable, "-c", _BUILDER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with builder:
        assert builder.stdout is not None
        folder = Path(builder.stdout.readline().decode().strip())
        assert folder.is_dir()
        assert abandoned_folders(tmp_path) == []
        assert sweep_folders(tmp_path) == []
        os.kill(builder.pid, signal.SIGKILL)
        builder.wait()
    assert abandoned_folders(tmp_path) == [folder]
    assert sweep_folders(tmp_path) == [folder]
    assert not folder.exists()
    assert sweep_folders(tmp_path) == []


def test_a_home_without_builds_has_nothing_to_sweep(tmp_path: Path) -> None:
    """Looking makes no folder."""
    assert abandoned_folders(tmp_path) == []
    assert sweep_folders(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
