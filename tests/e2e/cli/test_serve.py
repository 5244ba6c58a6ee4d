"""`modelyard serve`: where it listens, how it stops, and what it says when anyone may call."""

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
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


@contextlib.contextmanager
def started(modelyard: Any, *options: object) -> Iterator[tuple[dict[str, Any], Callable[[], str]]]:
    """A server: what it told on its start, and how to stop it and read what it wrote to stderr."""
    process = subprocess.Popen(
        modelyard.line("serve", "--port", 0, "--grpc-port", 0, "--json", *options),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=modelyard.environment(MODELYARD_WORKERS="1"),
    )

    def stop() -> str:
        process.terminate()
        _, told = process.communicate(timeout=60)
        return told.decode()

    with process:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline()), stop


def test_an_open_server_says_so_loudly(modelyard: Any) -> None:
    """It warns that everybody may call; one with keys on loopback has nothing to warn of."""
    for options, warns in ((("--open",), True), ((), False)):
        with started(modelyard, *options) as (told, stop):
            assert told["host"] == "127.0.0.1"
            assert ("WARNING" in (log := stop()) and "OPEN" in log) is warns


def test_keys_in_the_clear_are_warned_of(modelyard: Any) -> None:
    """Bound to more than loopback without TLS, keys can be read on their way."""
    with started(modelyard, "--host", "0.0.0.0") as (told, stop):
        assert told["host"] == "0.0.0.0"
        assert "IN THE CLEAR" in stop()


def test_only_loopback_can_be_open(modelyard: Any) -> None:
    """An address that others reach is never open, whoever asks for it."""
    done = modelyard("serve", "--open", "--host", "0.0.0.0", status=1)
    assert b"error: an open server lets everybody in" in done.stderr
    done = modelyard("serve", "--host", "0.0.0.0", status=1, MODELYARD_OPEN="true")
    assert b"error: an open server lets everybody in" in done.stderr


def test_the_first_start_tells_the_administrators_key_once(modelyard: Any) -> None:
    """It is in the one JSON line and nowhere in the log; a second start makes none."""
    with started(modelyard) as (told, stop):
        key = told["admin_key"]
        assert key not in stop()
    (record,) = modelyard.json("keys", "list")
    assert (record["role"], record["tenant"], record["name"]) == ("admin", "default", "first")
    assert key.startswith(f"my_{record['id']}_")
    with started(modelyard) as (told, stop):
        assert "admin_key" not in told
        stop()


def test_people_are_told_the_administrators_key_on_stderr(modelyard: Any) -> None:
    """Standard output, which may go into a file, does not have it."""
    process = subprocess.Popen(
        modelyard.line("serve", "--port", 0, "--grpc-port", 0),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=modelyard.environment(MODELYARD_WORKERS="2"),
    )
    with process:
        assert process.stdout is not None
        first = process.stdout.readline()
        process.terminate()
        rest, told = process.communicate(timeout=60)
    assert told.count(b"my_") == 1
    assert b"my_" not in first + rest


def test_a_taken_port_is_one_line(modelyard: Any, server: Any) -> None:
    """The second server says which address is taken and what to do."""
    done = modelyard("serve", "--port", server.port, "--grpc-port", 0, status=1)
    line = done.stderr.decode().splitlines()[-1]
    assert line.startswith(f"error: cannot listen on 127.0.0.1:{server.port}")
    assert b"Traceback" not in done.stderr


def test_status_needs_no_registry(modelyard: Any, server: Any) -> None:
    """What servers do is told also while their database does not answer."""
    (told,) = modelyard.json(
        "status", MODELYARD_DATABASE_URL="postgresql://nobody@127.0.0.1:1/none"
    )
    assert told["pid"] == server.pid
