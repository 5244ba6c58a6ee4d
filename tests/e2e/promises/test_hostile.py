"""Callers who mean harm, at a server with workers: refused or bounded, and others never notice."""

import contextlib
import gzip
import json
import resource
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil
import pytest

from tests.e2e.conftest import PATIENCE_S, Server
from tests.e2e.promises.conftest import OFFSETS
from tests.e2e.promises.stage import ASKED, Load, Stage, http_asks, loaded, offset, staged

MAX_BODY_BYTES = 4 * 2**20
MOST_MORE_BYTES = 128 * 2**20
"""How much more memory a process of the server may take at its worst, whatever comes."""
MOST_BYTES_A_CONNECTION = 16 * 1024
GIGABYTE = 2**30
AT_ONCE = 4
PIPELINED = 10_000
IDLE = 10_000
SLOW = 300
PATH = "/v2/models/sum/infer"
CHUNKED = "Transfer-Encoding: chunked"


@dataclass(frozen=True)
class Siege:
    """A server under attack, and the callers who must not notice."""

    stage: Stage
    load: Load

    @property
    def server(self) -> Server:
        return self.stage.server


@pytest.fixture(scope="module")
def siege(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Siege]:
    folder: Path = tmp_path_factory.mktemp("siege")
    models = {"sum": (offset(OFFSETS[1]),)}
    with (
        staged(folder, models=models, settings={"max_body_bytes": MAX_BODY_BYTES}) as stage,
        loaded(stage.server, "sum", {1: OFFSETS[1]}) as load,
    ):
        yield Siege(stage, load)


@contextlib.contextmanager
def unnoticed(siege: Siege, most_more_bytes: int = MOST_MORE_BYTES) -> Iterator[None]:
    """Other callers are answered meanwhile and after; memory stays bounded; no worker dies."""
    processes = [psutil.Process(pid) for pid in (siege.server.pid, *sorted(siege.stage.pids()))]
    before = [peak_bytes(each) for each in processes]
    yield
    siege.load.more(50)
    grown = [
        peak_bytes(each) - bytes_before
        for each, bytes_before in zip(processes, before, strict=True)
    ]
    assert max(grown) < most_more_bytes, grown
    for tally in siege.load.tallies:
        assert (tally.bad, tally.unconnected) == (0, 0), tally
    assert all(worker["restarts"] == 0 for worker in siege.stage.status()["workers"])


def peak_bytes(process: psutil.Process) -> int:
    """The most memory that a process has held at any time."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def announced(server: Server) -> None:
    """A gigabyte that says so first."""
    assert_refused(server, 413, head(f"Content-Length: {GIGABYTE}"), bytes(2**20), 64 * 2**20)


def unannounced(server: Server) -> None:
    """A gigabyte in chunks, of which nothing is said before."""
    chunk = b"%x\r\n%b\r\n" % (2**20, b" " * 2**20)
    assert_refused(server, 413, head(CHUNKED), chunk, 64 * 2**20)


def packed(server: Server) -> None:
    """A body of some kilobytes that unpacks to two hundred megabytes."""
    bomb = gzip.compress(bytes(200 * 2**20), 1)
    lines = f"Content-Length: {len(bomb)}", "Content-Encoding: gzip"
    assert_refused(server, 413, head(*lines) + bomb)


def nonsense(server: Server) -> None:
    """Chunks that are none."""
    for body in (b"zz\r\n", b"5\r\nhelloXX", b"ffffffffffffffffff\r\n", b"-5\r\nhello\r\n"):
        assert_refused(server, 400, head(CHUNKED) + body)


def deep(server: Server) -> None:
    """JSON of a million brackets."""
    for opening in (b"[" * 10**6, b'{"a":' * 10**5, b'{"inputs":' + b"[" * 10**6):
        body = opening + b"1"
        assert_refused(server, 400, head(f"Content-Length: {len(body)}") + body)


def flood(server: Server) -> None:
    """Headers without end."""
    lines = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))
    assert_refused(server, 431, head()[:-2], lines, 64 * 2**20)


@pytest.mark.parametrize("attack", [announced, unannounced, packed, nonsense, deep, flood])
def test_what_is_too_much_is_refused(siege: Siege, attack: Callable[[Server], None]) -> None:
    """Several at once, at every worker: each is told so, and nobody else notices."""
    with unnoticed(siege), ThreadPoolExecutor(AT_ONCE) as attackers:
        for done in [attackers.submit(attack, siege.server) for _ in range(2 * AT_ONCE)]:
            done.result()


def test_ten_thousand_requests_at_once_are_answered_in_order(siege: Siege) -> None:
    """One caller sends them before it reads anything: each gets its answer, and others theirs."""
    asks = http_asks("sum", {1: OFFSETS[1]})
    requests = [head(f"Content-Length: {len(ask.body)}") + ask.body for ask in asks]
    expected = [ask.expected["1"] for ask in asks]
    with unnoticed(siege), connected(siege.server) as caller:
        every = b"".join(requests[number % len(ASKED)] for number in range(PIPELINED))
        sending = threading.Thread(target=caller.sendall, args=(every,))
        sending.start()
        with caller.makefile("rb") as answers:
            for number in range(PIPELINED):
                assert read_answer(answers) == (200, expected[number % len(ASKED)])
        sending.join()


def test_requests_that_dribble_in_hold_nobody_up(siege: Siege) -> None:
    """Hundreds of callers who send a byte now and then take no more than their connections."""
    request = head("Content-Length: 1000")
    with unnoticed(siege), contextlib.ExitStack() as stack:
        callers = [stack.enter_context(connected(siege.server)) for _ in range(SLOW)]
        for place in range(30):
            # One that is slower than the server waits for is cut off, and rightly so.
            for caller in callers:
                with contextlib.suppress(ConnectionError):
                    caller.sendall(request[place : place + 1])
            siege.load.http.more(10)


def test_ten_thousand_idle_connections_are_held(siege: Siege) -> None:
    """All are kept, shared out evenly, cost some kilobytes each, and are forgotten when they go."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < IDLE + 1000:
        pytest.skip(f"a process may open {hard} files here, which are fewer than the callers")
    with unnoticed(siege, IDLE // 2 * MOST_BYTES_A_CONNECTION), more_files(hard):
        own = connections(siege)
        with contextlib.ExitStack() as stack:
            callers = [stack.enter_context(connected(siege.server)) for _ in range(IDLE)]
            told = wait_for_connections(siege, lambda total: total >= IDLE)
            assert abs(told[0] - told[1]) <= 20
            siege.load.more(50)
            for caller in callers[:: IDLE // 100]:
                caller.sendall(b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n")
                assert caller.recv(4096).startswith(b"HTTP/1.1 200")
        wait_for_connections(siege, lambda total: total <= sum(own) + 20)


def connections(siege: Siege) -> Sequence[int]:
    """How many connections each worker holds."""
    return [worker["connections"] for worker in siege.stage.status()["workers"]]


def wait_for_connections(siege: Siege, is_so: Callable[[int], bool]) -> Sequence[int]:
    siege.stage.wait_until(
        lambda told: is_so(sum(worker["connections"] for worker in told["workers"]))
    )
    return connections(siege)


def head(*lines: str) -> bytes:
    return "\r\n".join((f"POST {PATH} HTTP/1.1", "Host: t", *lines, "", "")).encode()


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    address = (server.host, server.port)
    with socket.create_connection(address, timeout=PATIENCE_S) as caller:
        yield caller


def assert_refused(
    server: Server, status: int, first: bytes, again: bytes = b"", most_bytes: int = 0
) -> None:
    """Send the first bytes, then the others again and again, and be refused before too many."""
    with connected(server) as caller:
        sent = len(first)
        with contextlib.suppress(ConnectionError):
            caller.sendall(first)
            while again and not has_answer(caller):
                assert sent < most_bytes, "it takes ever more"
                caller.sendall(again)
                sent += len(again)
        with caller.makefile("rb") as answers:
            told, body = read_answer(answers)
    assert told == status, body
    assert json.loads(body)["error"]


def has_answer(caller: socket.socket) -> bool:
    caller.setblocking(False)
    try:
        return bool(caller.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False
    finally:
        caller.settimeout(PATIENCE_S)


def read_answer(answers: BinaryIO) -> tuple[int, bytes]:
    """Status and body."""
    status = int(answers.readline().split()[1])
    length = 0
    while line := answers.readline().strip():
        name, _, text = line.lower().partition(b":")
        if name == b"content-length":
            length = int(text)
    return status, answers.read(length)


@contextlib.contextmanager
def more_files(count: int) -> Iterator[None]:
    """Let this process open so many."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
