"""The example programs run beside a server as they say they do."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import PATIENCE_S, Command, Server, serving

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server on a fresh home."""
    with serving(tmp_path_factory.mktemp("examples") / "home") as server:
        yield server


def run(server: Server, name: str, address: str) -> str:
    """What a program prints that is told where the server is."""
    return subprocess.run(
        [sys.executable, EXAMPLES / name, address],
        env=Command(server.home).environment(MODELYARD_HOME=str(server.home)),
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=PATIENCE_S,
    ).stdout


def test_the_canary_moves_calls_and_comes_back(server: Server) -> None:
    """Some 60 of 200 users, always the same ones; then all of them, and back."""
    shares, again, promoted, back, first = run(server, "canary.py", server.url).splitlines()
    old, new = (int(word) for word in shares.split() if word.isdigit())
    assert (old + new, 30 < new < 90) == (200, True)
    assert again == "asked again, the same: True"
    assert (promoted, back, first) == (
        "version 2 100%",
        "version 1 70%, version 2 30%",
        "version 1 100%",
    )


def test_the_stream_answers_every_row(server: Server) -> None:
    """As many answers as rows, each put to its own row."""
    assert run(server, "stream.py", server.grpc_address) == "146 of 150 flowers told rightly\n"
