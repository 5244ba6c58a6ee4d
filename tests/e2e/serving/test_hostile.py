"""A server in the worst of company: it stops when it is told to, and says what is wrong."""

import json
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
from sklearn.linear_model import LinearRegression

from modelyard import Yard
from modelyard.core.names import Reference
from tests.e2e.conftest import PATIENCE_S, Command, serving

# A server whose runtime of the model "hang" blocks at the call that the first argument names.
HANGING = """
import sys, threading
import modelyard.runtimes.open as opening
from modelyard.core.config import load_config
from modelyard.wiring.server import run_server

home, when = sys.argv[1:]
really_open = opening.open_runtime

def open_runtime(bundle, **options):
    runtime = really_open(bundle, **options)
    if bundle.manifest.name == "hang":
        run = runtime.run
        class Hanging:
            signature = runtime.signature
            close = runtime.close
            def run(self, inputs):
                first = float(next(iter(inputs.values())).reshape(-1)[0])
                if when == "load" or first == 13:
                    print("hanging", flush=True)
                    threading.Event().wait()
                return run(inputs)
        return Hanging()
    return runtime

opening.open_runtime = open_runtime
config = load_config(
    {"home": home, "port": 0, "grpc_port": 0, "drain_s": 1.0, "inline_us": 0, "open": True}
)
run_server(config, lambda addresses: print(addresses.url, flush=True))
print("stopped", flush=True)
"""


def publish(home: Path, *names: str) -> None:
    table = np.arange(20, dtype=float).reshape(10, 2)
    with Yard.open(home) as yard:
        for name in names:
            model = LinearRegression().fit(table, table.sum(axis=1))
            version = yard.publish(model, name=name, sample=table)
            yard.deploy(Reference(name, version=version.number))


@contextmanager
def hanging(home: Path, when: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, str(home), when],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=Command(home).environment(),
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line_of(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_a_server_stops_while_a_model_hangs_at_its_load(tmp_path: Path) -> None:
    """SIGTERM ends a server that has not even started because a version's warm-up hangs."""
    publish(tmp_path, "hang")
    with hanging(tmp_path, "load") as process:
        assert line_of(process) == "hanging"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output.strip()) == (0, "stopped"), errors
    assert "Traceback" not in errors


def test_a_server_stops_while_a_model_hangs_in_a_call(tmp_path: Path) -> None:
    """SIGTERM ends a server within its grace; who still waits is told, and others are answered."""
    publish(tmp_path, "hang", "well")
    with hanging(tmp_path, "call") as process:
        url = line_of(process)
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(f"{url}/v1/models/hang:predict", json=[[13, 1]], timeout=60))

        asking = threading.Thread(target=ask)
        asking.start()
        assert line_of(process) == "hanging"
        with httpx.Client(base_url=url) as client:
            assert client.get("/v2/health/live").status_code == 200
            assert client.post("/v1/models/well:predict", json=[[1, 2]]).status_code == 200
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=PATIENCE_S)
        asking.join(PATIENCE_S)
    assert (process.returncode, output.strip()) == (0, "stopped"), errors
    assert "Traceback" not in errors
    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "closing")]


def test_two_servers_serve_one_home(tmp_path: Path) -> None:
    """Both follow the same routes, and neither is in the other's way."""
    publish(tmp_path, "one")
    with serving(tmp_path, MODELYARD_POLL_S="0.02") as a, serving(tmp_path) as b:
        for url in (a.url, b.url):
            assert httpx.post(f"{url}/v1/models/one:predict", json=[[1, 2]]).status_code == 200


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    """A second server on the ports of a first says so in one line and ends with status 1."""
    with serving(tmp_path) as first:
        for option, port in (("--port", first.port), ("--grpc-port", first.grpc_port)):
            done = Command(tmp_path)(
                "serve", *("--port", 0, "--grpc-port", 0, option, port), status=1
            )
            assert len(done.stderr.decode().strip().splitlines()) == 1, done.stderr.decode()
            assert str(port) in done.stderr.decode()


def test_a_damaged_version_costs_the_others_nothing(tmp_path: Path) -> None:
    """A blob that is not what its digest says is named; the other models are served."""
    publish(tmp_path, "well")
    before = set(blobs(tmp_path))
    publish(tmp_path, "ill")
    largest = max(set(blobs(tmp_path)) - before, key=lambda path: path.stat().st_size)
    largest.chmod(0o600)
    data = bytearray(largest.read_bytes())
    data[len(data) // 2] ^= 1
    largest.write_bytes(data)
    with serving(tmp_path) as server:
        assert httpx.post(f"{server.url}/v1/models/well:predict", json=[[1, 2]]).status_code == 200
        ill = httpx.post(f"{server.url}/v1/models/ill:predict", json=[[1, 2]])
        assert (ill.status_code, ill.json()["code"]) == (503, "not_serving")
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 503
        assert httpx.get(f"{server.url}/v2/health/live").status_code == 200


def blobs(home: Path) -> list[Path]:
    return [path for path in home.rglob("*") if path.is_file() and len(path.name) == 64]


def test_a_server_outlives_its_registry(tmp_path: Path) -> None:
    """What is served goes on while the database is locked, and when its file has gone."""
    publish(tmp_path, "one")
    with serving(tmp_path, MODELYARD_POLL_S="0.02") as server, httpx.Client() as client:
        url = f"{server.url}/v1/models/one:predict"
        lock = sqlite3.connect(tmp_path / "registry.db", isolation_level=None)
        lock.execute("BEGIN EXCLUSIVE")
        for _ in range(50):
            assert client.post(url, json=[[1, 2]]).status_code == 200
        lock.execute("ROLLBACK")
        lock.close()
        for path in tmp_path.glob("registry.db*"):
            path.unlink()
        for _ in range(50):
            assert client.post(url, json=[[1, 2]]).status_code == 200
        assert client.get(f"{server.url}/v2/health/live").status_code == 200


def test_a_server_out_of_files_recovers(tmp_path: Path) -> None:
    """With every descriptor taken by idle callers the server waits; when they go it answers."""
    publish(tmp_path, "one")
    command = Command(tmp_path)
    line = command.line("serve", "--port", 0, "--grpc-port", 0, "--json")
    process = subprocess.Popen(
        ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *map(str, line)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=command.environment(MODELYARD_OPEN="true"),
    )
    try:
        told = json.loads(line_of(process))
        idle = [socket.create_connection((told["host"], told["port"])) for _ in range(100)]
        for each in idle:
            each.close()
        answer = httpx.post(f"{told['url']}/v1/models/one:predict", json=[[1, 2]], timeout=30)
        assert answer.status_code == 200
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0, errors
        assert len(errors.splitlines()) < 100
    finally:
        process.kill()
        process.communicate()


def test_every_call_that_was_taken_is_answered_at_the_end(tmp_path: Path) -> None:
    """SIGTERM under load: each answer is whole, then connections end, and the status is 0."""
    publish(tmp_path, "one")
    command = Command(tmp_path)
    process = subprocess.Popen(
        command.line("serve", "--port", 0, "--grpc-port", 0, "--json"),
        stdout=subprocess.PIPE,
        text=True,
        env=command.environment(MODELYARD_OPEN="true"),
    )
    body = b"[[1,2]]"
    head = "POST /v1/models/one:predict HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n"
    request = (head % len(body)).encode() + body
    try:
        told = json.loads(line_of(process))
        cut: list[bytes] = []
        answered = threading.Semaphore(0)

        def load() -> None:
            with socket.create_connection((told["host"], told["port"])) as caller:
                while True:
                    try:
                        caller.sendall(request)
                        received = b""
                        while not received.endswith(b"}"):
                            piece = caller.recv(65536)
                            if not piece:
                                cut.append(received)
                                return
                            received += piece
                    except OSError:
                        # The server closed while this request was on its way: it was never taken.
                        return
                    assert received.startswith(b"HTTP/1.1 200"), received
                    answered.release()

        callers = [threading.Thread(target=load) for _ in range(8)]
        for caller in callers:
            caller.start()
        for _ in range(500):
            assert answered.acquire(timeout=20)
        process.send_signal(signal.SIGTERM)
        for caller in callers:
            caller.join(PATIENCE_S)
        assert process.wait(PATIENCE_S) == 0
        assert all(piece == b"" for piece in cut)
    finally:
        process.kill()
        process.communicate()
