"""Health answers at once while a model does not."""

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.e2e.promises.conftest import OFFSETS
from tests.e2e.promises.stage import http_body, leaver, offset, staged
from tests.graphs import TURNS_A_SECOND, slow

WAITING = 4
BLOCKED_S = 10.0
PAUSE_S = 0.005
LIMIT_MS = 50.0
NOISE_MS = 250.0
"""How long this machine may keep any one process waiting, beyond what it did to the echo: a server
that waits for its model is late by seconds."""
PROBE = b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n"

# What this machine allows at the moment: a process that answers the same with nothing to do.
ECHO = r"""
import asyncio, sys
async def main():
    async def talk(reader, writer):
        try:
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        except asyncio.IncompleteReadError:
            writer.close()
    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
asyncio.run(main())
"""


@pytest.mark.parametrize("isolation", ["none", "process"])
def test_health_answers_at_once_while_a_model_does_not(
    tmp_path: Path, isolation: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """For ten seconds in which a model answers nobody, each worker says in 50 ms that it lives.

    One in a hundred may be late, by no more than a process beside it that only echoes, and noise.
    """
    models = {"sum": (offset(OFFSETS[1]),), "slow": (slow(),)}
    settings = {"isolation": isolation, "lanes": 1, "drain_s": 0.2}
    with (
        staged(tmp_path, models=models, settings=settings) as stage,
        echo() as port,
        contextlib.ExitStack() as stack,
    ):
        for_ever = 1000.0 * TURNS_A_SECOND
        waiting = [
            stack.enter_context(leaver(stage.server, "slow", for_ever)) for _ in range(WAITING)
        ]
        for each in waiting:
            each.begin()
        stage.wait_until(
            lambda told: sum(line["open_calls"] for line in told["endpoints"]) == WAITING
        )
        here = (stage.server.host, stage.server.port)
        # The supervisor gives each worker one of the two.
        lives = [stack.enter_context(socket.create_connection(here)) for _ in range(2)]
        echoes = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        live_ms, echo_ms = probe(lives, echoes)
        url = f"{stage.server.url}/v2/models/sum/infer"
        assert httpx.post(url, content=http_body(1)).status_code == 200
        assert not any(each.is_answered for each in waiting)
    assert "terminate" not in capfd.readouterr().err, "a process has not ended, but aborted"
    assert len(live_ms) > 500
    assert np.median(live_ms) < LIMIT_MS
    assert np.quantile(live_ms, 0.99) < LIMIT_MS, summary(live_ms, echo_ms)
    assert max(live_ms) < LIMIT_MS + max(echo_ms) + NOISE_MS, summary(live_ms, echo_ms)


def probe(lives: Sequence[socket.socket], echoes: socket.socket) -> tuple[list[float], list[float]]:
    """How long each of many answers took, of the workers and of the echo, in milliseconds."""
    live_ms: list[float] = []
    echo_ms: list[float] = []
    until = time.monotonic() + BLOCKED_S
    while time.monotonic() < until:
        live_ms += [wait_ms(each) for each in lives]
        echo_ms.append(wait_ms(echoes))
        time.sleep(PAUSE_S)
    return live_ms, echo_ms


def wait_ms(connection: socket.socket) -> float:
    began = time.perf_counter()
    connection.sendall(PROBE)
    answer = connection.recv(4096)
    assert answer.startswith(b"HTTP/1.1 200"), answer
    return (time.perf_counter() - began) * 1000


def summary(live_ms: Sequence[float], echo_ms: Sequence[float]) -> str:
    return "; ".join(
        f"{name} p50 {np.median(ms):.1f}, p99 {np.quantile(ms, 0.99):.1f}, max {max(ms):.1f} ms"
        for name, ms in (("health", live_ms), ("echo", echo_ms))
    )


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """A server of its own that echoes; its port."""
    process = subprocess.Popen(
        [sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        yield int(process.stdout.readline())
