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
