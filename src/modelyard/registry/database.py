"""One way to read and one way to write, the same on SQLite and PostgreSQL.

Writers take turns, across all processes: SQLite by `BEGIN IMMEDIATE`, PostgreSQL by an advisory
lock that the transaction holds. So numbers are consecutive, and a change that is visible is never
followed by an older one. Registry writes are rare and take milliseconds.
"""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import QueuePool

from modelyard.core.errors import (
    ApprovalNeeded,
    Conflict,
    Exhausted,
    Invalid,
    MissingExtra,
    ModelyardError,
    Unavailable,
)
from modelyard.core.masking import mask_url
from modelyard.registry.tables import HEAD

_PATIENCE_S: Final = 30.0
_SILENCE: Final = {"connect_timeout": 5, "tcp_user_timeout": 10_000}
"""Seconds until a PostgreSQL server must have answered a connection, and milliseconds for data."""
_DRIVERS: Final = {
    "sqlite": "sqlite+pysqlite",
    "sqlite+pysqlite": "sqlite+pysqlite",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
_WRITE: Final = "modelyard_write"
_NODE: Final = "modelyard_node"
_WRITER_LOCK: Final = 0x6D6F64656C796172
"""The advisory lock of PostgreSQL writers: the letters of 'modelyar'."""


def unnamed() -> str:
    """The node of a registry that was opened without one; nobody has a key to vouch for it."""
    return "unnamed"


def node_of(connection: Connection) -> str:
    """The node that writes; on whose chain audit rows are hung."""
    name: str = connection.get_execution_options()[_NODE]()
    return name


class Database:
    """An engine with the present schema behind it. `node` gives the name of who writes here."""

    def __init__(self, engine: Engine, node: Callable[[], str] = unnamed) -> None:
        self._reader = engine
        if engine.dialect.name == "postgresql":
            # A reader that asks twice must see one state.
            self._reader = engine.execution_options(isolation_level="REPEATABLE READ")
        self._writer = engine.execution_options(**{_WRITE: True, _NODE: node})
        # The transaction that this thread has open for all that it does: see `together`.
        self._open = threading.local()
        self._is_migrated = False

    @staticmethod
    def open(url: str, node: Callable[[], str] = unnamed, *, is_down: bool = False) -> "Database":
        """Connect and bring the schema up to date; safe in many processes at once.

        One that `is_down` is connected to when it is first asked something that it answers.
        """
        parsed = _parse(url)
        database = Database(_make_engine(parsed), node)
        try:
            if not is_down:
                database._migrate()
        except BaseException:
            database.close()
            raise
        return database

    def close(self) -> None:
        """Give the connections back."""
        self._writer.dispose()

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A snapshot."""
        joined = self._joined
        if joined is not None:
            yield joined
            return
        self._migrate()
        with self._reading() as connection:
            yield connection

    @contextlib.contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that no other writer overlaps; committed when the block ends well, or with
        `ApprovalNeeded`."""
        joined = self._joined
        if joined is not None:
            yield joined
            return
        self._migrate()
        with self._writing() as connection:
            yield connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _named_errors(), self._reader.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def _writing(self) -> Iterator[Connection]:
        asked: ApprovalNeeded | None = None
        with _named_errors(), self._writer.begin() as connection:
            if connection.dialect.name == "postgresql":
                # READ COMMITTED: what is read after this lock is what its last holder left.
                connection.execute(select(text(f"pg_advisory_xact_lock({_WRITER_LOCK})")))
            try:
                yield connection
            except ApprovalNeeded as error:
                # The request that it tells of is what there is to commit.
                asked = error
        if asked is not None:
            raise asked

    @contextlib.contextmanager
    def together(self) -> Iterator[Connection]:
        """One transaction for all that this thread reads and writes within.

        Committed as `write` does; any other error that leaves it undoes everything. Other writers
        wait meanwhile: no place for what takes long.
        """
        with self.write() as connection:
            if self._joined is not None:
                yield connection
                return
            self._open.connection = connection
            try:
                yield connection
            finally:
                self._open.connection = None

    @property
    def is_joined(self) -> bool:
        """Whether what this thread writes is committed with more, later: see `together`."""
        return self._joined is not None

    def empty_log(self) -> None:
        """Let SQLite's log of changes forget what was deleted, unless somebody reads just now."""
        if self._reader.dialect.name != "sqlite":
            return
        raw = self._reader.raw_connection()
        try:
            raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
        finally:
            raw.close()

    @property
    def _joined(self) -> Connection | None:
        return getattr(self._open, "connection", None)

    def _migrate(self) -> None:
        if self._is_migrated:
            return
        with self._reading() as connection:
            is_new = _revision(connection) != HEAD
        if is_new:
            if self._reader.dialect.name == "sqlite":
                self._use_wal()
            with self._writing() as connection:
                # Somebody else may have done it while we waited for the lock.
                if _revision(connection) != HEAD:
                    _upgrade(connection)
        self._is_migrated = True

    def _use_wal(self) -> None:
        """Turn write-ahead logging on; the file remembers it."""
        deadline = time.monotonic() + _PATIENCE_S
        raw = self._reader.raw_connection()
        try:
            # Against another process doing the same, SQLite fails at once instead of waiting.
            while True:
                try:
                    raw.cursor().execute("PRAGMA journal_mode = WAL")
                except sqlite3.OperationalError:
                    if time.monotonic() >= deadline:
                        raise
                    time.sleep(0.01)
                else:
                    return
        finally:
            raw.close()


def _parse(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        # Not repeated: where its password begins and ends is just what cannot be told.
        raise _bad_url("what 'database_url' says") from None
    if parsed.drivername not in _DRIVERS:
        raise _bad_url(f"'{mask_url(url)}'")
    return parsed.set(drivername=_DRIVERS[parsed.drivername])


def _bad_url(what: str) -> ModelyardError:
    return Invalid(
        "bad_database_url",
        f"{what} is no registry: use sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME",
        field="database_url",
    )


def _make_engine(url: URL) -> Engine:
    if url.get_backend_name() == "sqlite":
        return _make_sqlite_engine(url)
    # A server that is cut off says nothing: within these it counts as gone. A URL's own hold.
    patience = {name: value for name, value in _SILENCE.items() if name not in url.query}
    try:
        return create_engine(url, pool_pre_ping=True, connect_args=patience)
    except ImportError as error:
        raise MissingExtra("postgres", "a registry on PostgreSQL") from error


def _make_sqlite_engine(url: URL) -> Engine:
    in_memory = url.database in (None, "", ":memory:")
    if not in_memory:
        Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
    # A database in memory lives in its connection: one, lent to one thread at a time.
    size = {"pool_size": 1, "max_overflow": 0} if in_memory else {}
    engine = create_engine(
        url,
        poolclass=QueuePool,
        connect_args={"check_same_thread": False, "timeout": _PATIENCE_S},
        **size,
    )

    @event.listens_for(engine, "connect")
    def connect(connection: sqlite3.Connection, record: object) -> None:
        # The driver must not begin transactions by its own rules; `begin` below does.
        connection.isolation_level = None
        connection.execute("PRAGMA foreign_keys = ON")
        # What was reported as published must survive a power cut.
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        write = connection.get_execution_options().get(_WRITE, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _upgrade(connection: Connection) -> None:
    # Alembic costs more to import than all the rest, and is needed once in a registry's life.
    from alembic import command
    from alembic.config import Config
    from alembic.util import CommandError

    config = Config()
    config.set_main_option("script_location", "modelyard.registry:migrations")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise Conflict(
            "unknown_schema",
            f"the registry has a schema that this Modelyard does not know ({error}); "
            "it was probably written by a newer one: upgrade Modelyard",
        ) from error


@contextlib.contextmanager
def _named_errors() -> Iterator[None]:
    """Turn what a database says about its own state into errors of the house."""
    try:
        yield
    except DBAPIError as error:
        named = _name_error(error)
        if named is None:
            raise
        raise named from error


def _name_error(error: DBAPIError) -> ModelyardError | None:
    cause: Any = error.orig
    # SQLite names its errors, PostgreSQL has SQLSTATEs; 53100 is disk_full.
    name = getattr(cause, "sqlite_errorname", None) or getattr(cause, "sqlstate", None) or ""
    if name in ("SQLITE_FULL", "SQLITE_IOERR_WRITE", "53100"):
        return Exhausted(
            "disk_full",
            "the registry's disk is full; nothing was changed: free some space and try again",
        )
    if name.startswith("SQLITE_BUSY"):
        return Unavailable("registry_busy", "the registry is being written to by others; try again")
    if name in ("SQLITE_CORRUPT", "SQLITE_NOTADB"):
        return Unavailable(
            "registry_damaged", "the registry's database file is damaged; restore it from a copy"
        )
    # SQLite's errors are of this class, PostgreSQL's of classes below it: `AdminShutdown`, …
    if any(each.__name__ == "OperationalError" for each in type(cause).__mro__):
        return Unavailable("registry_unavailable", f"the registry does not answer: {cause}")
    return None
