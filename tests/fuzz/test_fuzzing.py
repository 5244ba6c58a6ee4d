"""The fuzzers, each for a few seconds; run one for longer by hand as its first lines say."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris is not installed: it has no build for this machine")


@pytest.mark.parametrize("name", ["credentials", "tokens"])
def test_a_fuzzer_finds_nothing(name: str, tmp_path: Path) -> None:
    """It ends well, and has looked at thousands of inputs."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", f"tests.fuzz.{name}", tmp_path / "corpus"),
            *("-max_total_time=4", "-max_len=400", "-rss_limit_mb=2048"),
            f"-artifact_prefix={tmp_path}/",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    last = done.stderr.rpartition("Done ")[2]
    assert int(last.split()[0]) > 2000, done.stderr[-1000:]
