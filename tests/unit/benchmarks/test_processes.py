import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from benchmarks.processes import ServerDied, ServerProcess, free_port

# A parent and a child that each hold 32 MB, announce themselves and wait for ever; the child
# ignores SIGTERM, as a server's worker may.
FAMILY = r"""
import os, signal, sys
child = os.fork()
if not child:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
held = b"x" * 32_000_000
sum(range(1_000_000))
os.write(1, b"ready\n")
signal.pause()
"""


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServerProcess]:
    monkeypatch.setattr("benchmarks.processes._STOP_S", 0.2)
    log = tmp_path / "log"
    with ServerProcess([sys.executable, "-c", FAMILY], log) as server:
        follow = ["tail", "-n+1", "-f", str(log)]
        with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True) as tail:
            assert tail.stdout is not None
            assert [tail.stdout.readline(), tail.stdout.readline()] == ["ready\n", "ready\n"]
            tail.terminate()
        yield server


def test_children_count(family: ServerProcess) -> None:
    """Memory and processor time are of the whole tree."""
    memory = family.memory()
    assert memory.processes == 2
    assert 64e6 < memory.pss < 200e6
    assert memory.uss <= memory.pss <= memory.rss
    assert family.cpu_s() > 0


def test_nothing_is_left_behind(family: ServerProcess) -> None:
    """A child that ignores SIGTERM is ended with its parent."""
    children = psutil.Process(family.pid).children(recursive=True)
    assert len(children) == 1
    family.stop()
    assert not psutil.pid_exists(family.pid)
    gone, alive = psutil.wait_procs(children, timeout=5)
    assert len(gone) == 1
    assert not alive


def test_a_server_that_died_shows_its_log(tmp_path: Path) -> None:
    """The reason of a failed start is in the error."""
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with ServerProcess(command, tmp_path / "log") as server:
        psutil.wait_procs([psutil.Process(server.pid)], timeout=10)
        with pytest.raises(ServerDied, match="no such model"):
            server.check()


def test_free_ports_can_be_bound() -> None:
    """The port is a real one, and nobody holds it."""
    import socket

    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))
