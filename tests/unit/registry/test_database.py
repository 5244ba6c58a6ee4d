"""Opening databases, and what is said when they do not do their work."""

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from modelyard.core.errors import Invalid, MissingExtra, ModelyardError, Unavailable
from modelyard.registry import database
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.database import Database
from modelyard.registry.registry import Registry


@pytest.mark.parametrize(
    "url",
    ["", "registry.db", "mysql://root@h/x", "oracle://x", "sqlite:", "postgresql+psycopg2://h/x"],
)
def test_what_is_no_url_of_ours_is_refused(url: str) -> None:
    """The message shows what a URL looks like."""
    with pytest.raises(Invalid, match="use sqlite:///FILE") as caught:
        Database.open(url)
    assert caught.value.field == "database_url"


@pytest.mark.parametrize(
    "url",
    [
        "mysql://root:hunter2@localhost/x",
        "root:hunter2@localhost",
        "postgresql://root:hunter2@localhost:x/y",
        "mysql://root:a@hunter2@localhost/x",
        "mysql://localhost/x?password=hunter2",
    ],
)
def test_a_password_is_not_shown(url: str) -> None:
    """A refused URL is quoted without its secret, and not at all where nobody knows where it is."""
    with pytest.raises(Invalid) as caught:
        Database.open(url)
    assert "hunter2" not in caught.value.message


def test_a_missing_driver_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without psycopg the message is the command that installs it."""
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(MissingExtra, match=r"pip install 'modelyard\[postgres\]'"):
        Database.open("postgresql://nobody@localhost/none")


def test_a_server_that_does_not_answer_is_unavailable(tmp_path: Path) -> None:
    """A PostgreSQL that is not there is an error of ours, with the reason."""
    with pytest.raises(Unavailable) as caught:
        Database.open(f"postgresql+psycopg://nobody@/none?host={tmp_path}")
    assert caught.value.code == "registry_unavailable"


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    """Garbage in place of the registry is not overwritten."""
    file = tmp_path / "registry.db"
    file.write_bytes(b"garbage " * 1000)
    with pytest.raises(Unavailable) as caught:
        Database.open(f"sqlite:///{file}")
    assert caught.value.code == "registry_damaged"
    assert file.read_bytes() == b"garbage " * 1000


def test_a_home_is_made_where_there_is_none(tmp_path: Path) -> None:
    """The folders of a SQLite file are made."""
    Database.open(f"sqlite:///{tmp_path / 'a' / 'b' / 'registry.db'}").close()
    assert (tmp_path / "a" / "b" / "registry.db").is_file()


def test_readers_go_on_while_a_writer_is_at_work(tmp_path: Path) -> None:
    """Write-ahead logging is on: an open write transaction blocks no reader."""
    opened = Database.open(f"sqlite:///{tmp_path / 'registry.db'}")
    with opened.write(), opened.read() as connection:
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
    opened.close()
    assert mode == "wal"


def test_a_writer_that_never_ends_makes_others_say_busy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the patience a writer gives up with an error of ours."""
    file = tmp_path / "registry.db"
    monkeypatch.setattr(database, "_PATIENCE_S", 0.05)
    opened = Database.open(f"sqlite:///{file}")
    other = sqlite3.connect(file, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ModelyardError) as caught, opened.write():
        pass
    assert caught.value.code == "registry_busy"
    other.close()
    with opened.write():
        pass
    opened.close()


def test_a_known_registry_opens_without_alembic(tmp_path: Path) -> None:
    """Only a migration pays for Alembic's import."""
    url = f"sqlite:///{tmp_path / 'registry.db'}"
    Registry.open(url, LocalBlobStore(tmp_path)).close()
    code = (
        "import sys; from pathlib import Path\n"
        "from modelyard.registry.registry import Registry\n"
        "from modelyard.registry.blobs import LocalBlobStore\n"
        f"registry = Registry.open({url!r}, LocalBlobStore(Path({str(tmp_path)!r})))\n"
        "registry.models()\n"
        "print(*sorted({'alembic', 'psycopg'} & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == ""
