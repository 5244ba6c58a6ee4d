import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.core.config import load_config
from modelyard.core.errors import Conflict
from modelyard.wiring.registry import open_registry


def test_a_home_keeps_to_its_registry(tmp_path: Path) -> None:
    """Another registry on the same blobs is refused: its repair would collect them all."""
    home = tmp_path / "home"
    own = load_config({"home": home}, {})
    with open_registry(own) as registry:
        identity = registry.identity()
    other = load_config({"home": home, "database_url": f"sqlite:///{tmp_path / 'other.db'}"}, {})
    with pytest.raises(Conflict, match="another home") as caught:
        open_registry(other)
    assert caught.value.code == "foreign_home"
    with open_registry(own) as registry:
        assert registry.identity() == identity


def test_a_supervisor_imports_nothing_of_what_workers_need() -> None:
    """It waits, and costs little memory while it does."""
    told = "import sys, modelyard.wiring.supervisor; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, check=True, text=True)
    heavy = {"numpy", "sqlalchemy", "onnxruntime", "cryptography", "litestar", "uvicorn"}
    assert not heavy & set(done.stdout.split())
