"""`modelyard serve`: where it listens, how it stops, and what it says when anyone may call."""

import json
import os
import pty
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest

# Runs a command with its standard input as the terminal that controls it.
IN_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""


def ask(url: str) -> Any:
    row = {"age": 40.0, "visits": 3, "code": "0456", "member": True}
    request = urllib.request.Request(f"{url}/predict/leavers", json.dumps(row).encode())
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


def test_a_server_answers_what_is_deployed(leavers: Any, start_server: Callable[..., Any]) -> None:
    """Deploy and roll back from another process: the server follows without a restart."""
    server = start_server(leavers.home)
    assert ask(server.url)["version"] == 1
    leavers("deploy", "leavers:2")
    _wait_for(server.url, 2)
    leavers("rollback", "leavers")
    _wait_for(server.url, 1)


def _wait_for(url: str, version: int) -> None:
    # Every answer on the way is an answer: none may fail. The test's own timeout bounds it.
    while ask(url)["version"] != version:
        pass


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_server_stops_well(modelyard: Any, number: signal.Signals) -> None:
    """SIGTERM and Ctrl-C end it with status 0."""
    process = subprocess.Popen(
        modelyard.line("serve", "--port", 0, "--grpc-port", 0),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=modelyard.environment(),
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"HTTP  http://127.0.0.1:")
        assert process.stdout.readline().startswith(b"gRPC  127.0.0.1:")
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
        assert process.returncode == 0
    assert b"Traceback" not in told


def test_a_server_goes_with_its_terminal(modelyard: Any) -> None:
    """A closed window is no wish for new workers: the server ends as it does at SIGTERM."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [
            *(sys.executable, "-c", IN_TERMINAL),
            *modelyard.line("serve", "--port", 0, "--grpc-port", 0, "--workers", 1),
        ],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=modelyard.environment(),
        start_new_session=True,
    )
    os.close(slave)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith(b"HTTP  ")
        os.close(master)
        process.communicate(timeout=60)
        assert process.returncode == 0


def test_an_open_server_says_so_loudly(modelyard: Any) -> None:
    """Bound to more than loopback, it warns that anyone may call; on loopback it does not."""
    for host, warns in (("0.0.0.0", True), ("127.0.0.1", False)):
        process = subprocess.Popen(
            modelyard.line("serve", "--host", host, "--port", 0, "--grpc-port", 0, "--json"),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=modelyard.environment(),
        )
        with process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["host"] == host
            process.terminate()
            _, told = process.communicate(timeout=60)
        assert (b"WARNING" in told and b"ANYONE" in told) is warns


def test_a_taken_port_is_one_line(modelyard: Any, server: Any) -> None:
    """The second server says which address is taken and what to do."""
    done = modelyard("serve", "--port", server.port, "--grpc-port", 0, status=1)
    line = done.stderr.decode().splitlines()[-1]
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{server.port}")
    assert b"Traceback" not in done.stderr
