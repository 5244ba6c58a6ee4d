"""Load over gRPC, from as many Python processes as the machine has cores, two at most.

No native generator of the registries looks at gRPC statuses: h2load counts a failed call as a
good one. So the clients are grpc.aio, which cost more than most servers do; what they use is
reported, and they are the same for every server.
"""

import subprocess
import sys
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from benchmarks.grpc_client import Answers, Job
from benchmarks.load import Load, LoadFailed
from benchmarks.machine import ROOT

_PROCESSES = 2
_MARGIN_S = 60


def ask_grpc(target: str, method: str, bodies: Sequence[bytes], connections: int) -> list[bytes]:
    """Each message once; the answers in their order. Raises `LoadFailed` for any bad status."""
    with _written(bodies) as path:
        (answers,) = _run([Job(target, method, path, connections, seconds=0)])
    if answers.errors:
        raise LoadFailed(f"{target}{method} refused: {answers.refusal}")
    return [b64decode(answer) for answer in answers.answers]


def run_grpc_load(
    target: str, method: str, bodies: Sequence[bytes], *, connections: int, seconds: int
) -> Load:
    """Send the messages in turn over so many connections, each with one call in flight."""
    processes = min(_PROCESSES, connections)
    with _written(bodies) as path:
        jobs = [
            Job(target, method, path, connections // processes, seconds, first=index * 7)
            for index in range(processes)
        ]
        return merge(_run(jobs))


def merge(parts: Sequence[Answers]) -> Load:
    """What all processes saw, as one load."""
    latencies = np.concatenate([np.array(part.latencies_us) for part in parts]) / 1e3
    if not len(latencies):
        raise LoadFailed("no gRPC call was answered")
    return Load(
        seconds=max(part.seconds for part in parts),
        requests=len(latencies),
        p50_ms=float(np.percentile(latencies, 50)),
        p99_ms=float(np.percentile(latencies, 99)),
        max_ms=float(latencies.max()),
        bad_statuses=sum(part.errors for part in parts),
        socket_errors=0,
        client_cpu_s=sum(part.cpu_s for part in parts),
        client_processes=len(parts),
    )


@contextmanager
def _written(bodies: Sequence[bytes]) -> Iterator[str]:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "bodies"
        path.write_bytes(msgspec.msgpack.encode(list(bodies)))
        yield str(path)


def _run(jobs: Sequence[Job]) -> list[Answers]:
    """Start all, wait until all are connected, and let them go together."""
    clients = [_start(job) for job in jobs]
    try:
        for client in clients:
            if client.stdout.readline() != "ready\n":  # type: ignore[union-attr]
                raise LoadFailed(f"a gRPC client did not connect:\n{_rest(client)}")
        for client in clients:
            client.stdin.write("go\n")  # type: ignore[union-attr]
            client.stdin.flush()  # type: ignore[union-attr]
        limit_s = max(job.seconds for job in jobs) + _MARGIN_S
        return [_answers(client, limit_s) for client in clients]
    finally:
        for client in clients:
            client.kill()
            client.wait()


def _start(job: Job) -> subprocess.Popen[str]:
    client = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.grpc_client"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert client.stdin is not None
    client.stdin.write(msgspec.json.encode(job).decode() + "\n")
    client.stdin.flush()
    return client


def _answers(client: subprocess.Popen[str], limit_s: float) -> Answers:
    try:
        output, errors = client.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"a gRPC client had not ended after {limit_s:.0f} s") from None
    if client.returncode != 0:
        raise LoadFailed(f"a gRPC client failed:\n{errors[-1500:]}")
    return msgspec.json.decode(output, type=Answers)


def _rest(client: subprocess.Popen[str]) -> str:
    client.kill()
    return client.communicate()[1][-1500:]
