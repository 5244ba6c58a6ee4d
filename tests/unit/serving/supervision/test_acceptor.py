"""Connections that find no descriptor."""

import asyncio
import resource
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest

from modelyard.serving.supervision import acceptor as acceptor_module
from modelyard.serving.supervision.acceptor import Acceptor

CALLER = """
import socket, sys
calls = [socket.create_connection(("127.0.0.1", int(sys.argv[1]))) for _ in range(40)]
sys.stdin.read()
"""


def test_without_descriptors_it_rests(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once a pause, rather than trying as fast as it can, and goes on afterwards."""
    monkeypatch.setattr(acceptor_module, "_NO_DESCRIPTORS_S", 0.3)

    async def go() -> None:
        bound = socket.create_server(("127.0.0.1", 0))
        acceptor = Acceptor(0, bound, lambda: [])
        caller = subprocess.Popen(
            [sys.executable, "-c", CALLER, str(bound.getsockname()[1])], stdin=subprocess.PIPE
        )
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = socket.socket()
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest.fileno() + 10, hard))
        try:
            acceptor.start()
            await _until(lambda: len(caplog.records) == 2)
            assert acceptor._waiting
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await _until(lambda: len(acceptor._waiting) == 40)
        assert len(caplog.records) <= 3
        acceptor.close()
        acceptor.drop()
        highest.close()
        caller.communicate()

    asyncio.run(go())


async def _until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not is_so():
            await asyncio.sleep(0.005)
