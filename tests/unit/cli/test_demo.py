from pathlib import Path

import pytest

from modelyard.cli.demo import _demo_home
from modelyard.cli.settings import Settings
from modelyard.core.errors import Conflict


@pytest.fixture(autouse=True)
def _elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MODELYARD_HOME", raising=False)


def test_each_demo_begins_anew() -> None:
    """Without a home of one's own, what the last demo left is gone, so that it can be repeated."""
    for _ in range(2):
        with _demo_home(Settings()) as settings:
            assert settings.home is not None
            assert not settings.home.exists()
            settings.home.mkdir()
            (settings.home / "registry.db").touch()


def test_two_demos_do_not_share_a_home() -> None:
    """The second is refused while the first runs, and told what to do."""
    with (
        _demo_home(Settings()),
        pytest.raises(Conflict, match="--home"),
        _demo_home(Settings()),
    ):
        pass


def test_a_home_of_ones_own_is_never_emptied(tmp_path: Path) -> None:
    """`--home` is used as it is."""
    kept = tmp_path / "mine"
    kept.mkdir()
    with _demo_home(Settings(kept)) as settings:
        assert settings.home == kept
    assert kept.is_dir()
