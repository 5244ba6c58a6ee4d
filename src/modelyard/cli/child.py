"""A server of our own as a child process."""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from modelyard.core.errors import Unavailable

_PATIENCE_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Child:
    """Where it listens, its process, and its administrator's key where it has just made that."""

    url: str
    grpc_address: str
    process: "subprocess.Popen[bytes]"
    admin_key: str = field(default="", repr=False)


@contextlib.contextmanager
def serving(home: Path, port: int, grpc_port: int, log: Path) -> Iterator[Child]:
    """`modelyard serve` on a home until the block ends, with one worker, and asking for keys; it
    logs to a file.

    Raises `Unavailable` with the last line of the log where it does not come up.
    """
    command = [sys.executable, "-m", "modelyard", "--home", str(home), "serve", "--json"]
    command += ["--workers", "1"]
    ports = ["--host", "127.0.0.1", "--port", str(port), "--grpc-port", str(grpc_port)]
    with log.open("wb") as file:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and verb, no shell
            [*command, *ports],
            stdout=subprocess.PIPE,
            stderr=file,
            env={**os.environ, "MODELYARD_OPEN": "false"},
        )
    with process:
        try:
            line = process.stdout.readline() if process.stdout is not None else b""
            if not line:
                raise _no_server(log)
            told = json.loads(line)
            address = f"{told['host']}:{told['grpc_port']}"
            yield Child(told["url"], address, process, told.get("admin_key", ""))
        finally:
            _stop(process)


def _stop(process: "subprocess.Popen[bytes]") -> None:
    # By its id and nothing else; a Ctrl-C at the terminal may have reached it before us.
    process.terminate()
    try:
        process.wait(_PATIENCE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()


def _no_server(log: Path) -> Unavailable:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    why = lines[-1].removeprefix("error: ") if lines else "it said nothing"
    return Unavailable("no_server", f"the server did not start: {why}")
