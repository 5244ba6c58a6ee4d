"""Registries that are away, and disks that are full."""

import contextlib
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg


@contextlib.contextmanager
def stopped(server: str, url: str) -> Iterator[None]:
    """Every process of PostgreSQL, stopped as by a machine that hangs."""
    with psycopg.connect(server) as connection:
        (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
    main = psutil.Process(int(Path(folder, "postmaster.pid").read_text().split()[0]))
    processes = [main, *main.children()]
    signal_all(processes, signal.SIGSTOP)
    try:
        yield
    finally:
        signal_all(processes, signal.SIGCONT)


def signal_all(processes: list[psutil.Process], number: signal.Signals) -> None:
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(number)


@contextlib.contextmanager
def refusing(server: str, url: str) -> Iterator[None]:
    """The database takes no connections, and those there were have been ended."""
    name = url.partition("@/")[2].partition("?")[0]
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name]
        )
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Locked for writers, and out of reach of whoever opens it now."""
    hidden = file.with_suffix(".hidden")
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as lock:
        lock.execute("BEGIN EXCLUSIVE")
        file.rename(hidden)
        file.mkdir()
        try:
            yield
        finally:
            file.rmdir()
            hidden.rename(file)
            lock.execute("ROLLBACK")


def fill(file: Path) -> None:
    """Take all room that its disk has."""
    with file.open("wb", buffering=0) as sink, contextlib.suppress(OSError):
        while True:
            sink.write(bytes(4096))
