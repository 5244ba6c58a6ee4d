"""SIGTERM and SIGHUP under load: what the server was asked it answers, whatever becomes of it."""

import contextlib
import signal
import socket
from collections.abc import Iterator

from tests.e2e.promises.stage import Load, Stage, all_new, http_body

REPLACEMENTS = 5
IDLE = 16
DRAIN_S = 20


def test_sigterm_answers_all_that_was_asked(stage: Stage, load: Load) -> None:
    """Every request gets its answer, callers are told of the end, and the exit status is 0."""
    stage.signal(signal.SIGTERM)
    assert stage.wait_for_end(DRAIN_S) == 0
    for driven in (load.http, load.grpc):
        # Nobody listens any more, and only now do callers notice.
        driven.wait(lambda tally: tally.unconnected > 0)
    http, grpc = load.stop()
    assert (http.bad, grpc.bad) == (0, 0), (http, grpc)
    assert http.told_to_close == load.http.plan.connections


def test_sighup_is_noticed_by_nobody(stage: Stage, load: Load) -> None:
    """Five times all workers are replaced: no request is lost, no connection refused or ended."""
    with contextlib.ExitStack() as stack:
        idle = [stack.enter_context(connected(stage)) for _ in range(IDLE)]
        for each in idle:
            assert asked(each) == b"200"
        for _ in range(REPLACEMENTS):
            before = stage.pids()
            stage.signal(signal.SIGHUP)
            told = stage.wait_until(lambda told, before=before: all_new(told, before, 2))
            assert all(worker["restarts"] == 0 for worker in told["workers"])
            load.more(50)
        for each in idle:
            assert asked(each) == b"200"
    http, grpc = load.stop()
    assert (http.bad, http.unconnected, http.told_to_close) == (0, 0, 0), http
    assert (grpc.bad, grpc.unconnected) == (0, 0), grpc


@contextlib.contextmanager
def connected(stage: Stage) -> Iterator[socket.socket]:
    with socket.create_connection((stage.server.host, stage.server.port), timeout=20) as caller:
        yield caller


def asked(caller: socket.socket) -> bytes:
    """The status of one answer."""
    body = http_body(1)
    head = f"POST /v2/models/sum/infer HTTP/1.1\r\nHost: t\r\nContent-Length: {len(body)}\r\n\r\n"
    caller.sendall(head.encode() + body)
    received = b""
    while not received.endswith(b"}"):
        piece = caller.recv(65536)
        assert piece, f"the connection ended after {received!r}"
        received += piece
    return received.split(b" ", 2)[1]
