from pathlib import Path

import pytest

from benchmarks.environment import REQUIREMENTS, Environment
from benchmarks.peer import NotPrepared


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Environment:
    """An environment whose list names nothing to install."""
    monkeypatch.setattr("benchmarks.environment.FOLDER", tmp_path / "environments")
    monkeypatch.setattr("benchmarks.environment.REQUIREMENTS", tmp_path)
    (tmp_path / "empty.txt").write_text("# nothing\n", "utf-8")
    return Environment("empty")


def test_an_environment_is_made_once_and_again_when_its_list_changes(empty: Environment) -> None:
    """The second call finds it; another list makes it anew."""
    empty.ensure()
    assert Path(empty.python).exists()
    left = empty.folder / "left-behind"
    left.touch()
    empty.ensure()
    assert left.exists()
    (empty.folder.parents[1] / "empty.txt").write_text("# still nothing\n", "utf-8")
    empty.ensure()
    assert not left.exists()


def test_what_cannot_be_installed_is_a_reason(empty: Environment) -> None:
    """pip's own words are in the message, and nothing is taken for made."""
    (empty.folder.parents[1] / "empty.txt").write_text("./no-such-folder\n", "utf-8")
    with pytest.raises(NotPrepared, match="no-such-folder"):
        empty.ensure()
    with pytest.raises(NotPrepared, match="no-such-folder"):
        empty.ensure()


def test_every_list_is_pinned() -> None:
    """A result that was measured with some version must say which."""
    lists = list(REQUIREMENTS.glob("*.txt"))
    assert len(lists) > 5
    for path in lists:
        for line in path.read_text("utf-8").splitlines():
            assert line.startswith("#") or "==" in line, f"{path.name}: {line}"


def test_versions_are_read_from_the_list() -> None:
    """What a table says was measured is what was pinned; a stranger is an error."""
    assert Environment("fastapi").version("fastapi")[0].isdigit()
    with pytest.raises(LookupError, match="pins no django"):
        Environment("fastapi").version("django")
