"""A server under measurement: spawned, watched with all its children, and stopped with them."""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import msgspec
import psutil

_STOP_S = 10
_ORPHANS_S = 0.5
_FILES = 65_536


class ServerDied(RuntimeError):
    """The server ended by itself; the message holds the end of its log."""


class Memory(msgspec.Struct, frozen=True):
    """Memory of a process tree, in bytes.

    `pss` shares out each shared page among those that map it, so that the sum over a tree is
    what the tree costs; `rss` counts shared pages once a process, `uss` not at all.
    """

    pss: int
    uss: int
    rss: int
    processes: int


class ServerProcess:
    """One running server. A context manager, so that nothing is left behind."""

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        folder: Path | None = None,
    ) -> None:
        self._log = log
        with log.open("wb") as sink:
            self._popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                cwd=folder,
                start_new_session=True,
            )
        self._process = psutil.Process(self._popen.pid)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the server's root process."""
        return self._popen.pid

    def check(self) -> None:
        """Raises `ServerDied` if the server is no longer running."""
        status = self._popen.poll()
        if status is not None:
            raise ServerDied(
                f"the server ended with status {status}; its log ends:\n{self.log_end()}"
            )

    def log_end(self) -> str:
        """The last lines that the server wrote."""
        return self._log.read_text("utf-8", "replace")[-2000:]

    def cpu_s(self) -> float:
        """Processor time that the tree has used so far, user and system; ticks of 10 ms."""
        return sum(_cpu_s(process) for process in self._tree())

    def memory(self) -> Memory:
        """What the tree holds now. Costs some milliseconds a process."""
        shares = [share for share in map(_memory, self._tree()) if share is not None]
        return Memory(
            pss=sum(share.pss for share in shares),
            uss=sum(share.uss for share in shares),
            rss=sum(share.rss for share in shares),
            processes=len(shares),
        )

    def stop(self) -> None:
        """Ask the server to end, then end what is left of its tree."""
        root, *others = self._tree()
        _signal(root.terminate)
        psutil.wait_procs([root], timeout=_STOP_S)
        # Whoever outlives the one that was asked has not been told, or does not listen.
        _, alive = psutil.wait_procs(others, timeout=_ORPHANS_S)
        for process in [root, *alive]:
            _signal(process.kill)
        self._popen.wait()

    def _tree(self) -> list[psutil.Process]:
        """The root first, its descendants, and orphans of its session: a helper may leave home."""
        try:
            found = {each.pid: each for each in self._process.children(recursive=True)}
        except psutil.NoSuchProcess:
            found = {}
        found |= {each.pid: each for each in psutil.process_iter() if _session(each) == self.pid}
        found.pop(self.pid, None)
        return [self._process, *found.values()]


def free_port() -> int:
    """A port of the loopback interface that nobody holds at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def allow_many_files() -> None:
    """Let this process and what it starts open as many files as the system allows it.

    A thousand connections do not fit into the usual 1,024.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def beside_python(program: str) -> str:
    """A program of the running environment, whether or not it is activated."""
    return str(Path(sys.executable).parent / program)


@contextmanager
def machine_busy() -> Iterator[list[float]]:
    """Put into the list the processor seconds that the whole machine worked meanwhile."""
    seconds: list[float] = []
    before = _busy_s()
    yield seconds
    seconds.append(_busy_s() - before)


def _busy_s() -> float:
    times = psutil.cpu_times()
    # Linux counts guest time in user time already, and steal is work of other machines.
    parts = (times.user, times.nice, times.system, times.irq, times.softirq, times.steal)
    return float(sum(parts))


def _cpu_s(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def _memory(process: psutil.Process) -> Memory | None:
    try:
        info = process.memory_full_info()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return None
    return Memory(pss=info.pss, uss=info.uss, rss=info.rss, processes=1)


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except (ProcessLookupError, PermissionError):
        return -1


def _signal(send: Callable[[], None]) -> None:
    try:
        send()
    except psutil.NoSuchProcess:
        return
