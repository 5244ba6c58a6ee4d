"""Real processes for end-to-end tests: the command line, and servers on free ports."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PATIENCE_S = 60


@dataclass(frozen=True)
class Command:
    """`modelyard --home HOME`, run as a process of its own."""

    home: Path

    def environment(self, **more: str) -> dict[str, str]:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith("MODELYARD_")
        }
        return {**inherited, "COLUMNS": "120", **more}

    def line(self, *arguments: object) -> list[str]:
        home = ["--home", str(self.home)]
        return [sys.executable, "-m", "modelyard", *home, *map(str, arguments)]

    def __call__(
        self, *arguments: object, input: bytes | None = None, status: int = 0, **environment: str
    ) -> subprocess.CompletedProcess[bytes]:
        """Run to the end and check the exit status."""
        done = subprocess.run(
            self.line(*arguments),
            input=input,
            capture_output=True,
            timeout=PATIENCE_S,
            env=self.environment(**environment),
        )
        assert done.returncode == status, done.stderr.decode() + done.stdout.decode()
        return done

    def json(self, *arguments: object, **options: object) -> object:
        """The one JSON document that a verb prints with `--json`."""
        return json.loads(self(*arguments, "--json", **options).stdout)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Server:
    """A running `modelyard serve`."""

    home: Path
    host: str
    port: int
    grpc_port: int
    pid: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"

    @property
    def grpc_address(self) -> str:
        return f"{self.host}:{self.grpc_port}"


@pytest.fixture(scope="session")
def command_at() -> type[Command]:
    """Makes the command on a home of your own."""
    return Command


@pytest.fixture
def modelyard(tmp_path: Path) -> Command:
    """The command on a fresh home."""
    return Command(tmp_path / "home")


@contextlib.contextmanager
def serving(home: Path, *options: object, **environment: str) -> Iterator[Server]:
    """Serve a home on free ports; stopped by its pid when the block ends."""
    command = Command(home)
    process = subprocess.Popen(
        command.line("serve", "--port", 0, "--grpc-port", 0, "--json", *options),
        stdout=subprocess.PIPE,
        # One, unless a test is about several: a route change is in force in each at its own time.
        env=command.environment(
            **{"MODELYARD_WORKERS": "1", "MODELYARD_OPEN": "true", **environment}
        ),
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the server ended with status {process.wait(PATIENCE_S)}"
        told = json.loads(line)
        yield Server(home, told["host"], told["port"], told["grpc_port"], told["pid"])
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        finally:
            process.kill()
            process.communicate()


@pytest.fixture
def start_server() -> Iterator[Callable[..., Server]]:
    """Start servers on homes of the test's own; all are stopped after the test."""
    with contextlib.ExitStack() as stack:

        def start(home: Path, *options: object, **environment: str) -> Server:
            return stack.enter_context(serving(home, *options, **environment))

        yield start


@pytest.fixture
def server(modelyard: Command, start_server: Callable[..., Server]) -> Server:
    """A server on the home of `modelyard`; deploy to it with that."""
    return start_server(modelyard.home)
