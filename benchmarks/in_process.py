"""onnxruntime with no server: the programs of `services/in_process_*.py`, run and read."""

import os
import subprocess
import sys
from collections.abc import Sequence

import msgspec
import psutil

from benchmarks.load import Load, LoadFailed
from benchmarks.measure import to_round
from benchmarks.model import Model
from benchmarks.peers.service import program, settings
from benchmarks.processes import machine_busy
from benchmarks.results import Round

_MARGIN_S = 60


class _Queue(msgspec.Struct, frozen=True):
    """What the queue's program prints."""

    seconds: float
    requests: int
    cpu_s: float
    p50_ms: float
    p99_ms: float
    max_ms: float


def measure_batches(model: Model, seconds: float) -> dict[str, float]:
    """Rows a second by batch size, in one thread."""
    output = _run("in_process_batches.py", model, [str(seconds)], threads=1)
    return msgspec.json.decode(output, type=dict[str, float])


def measure_queue(model: Model, *, lanes: int, threads: int, callers: int, seconds: float) -> Round:
    """So many callers before so many sessions, in the order of arrival: the queueing ideal."""
    arguments = [str(lanes), str(callers), str(seconds)]
    with machine_busy() as busy:
        output = _run("in_process_fifo.py", model, arguments, threads=threads)
    seen = msgspec.json.decode(output, type=_Queue)
    load = Load(
        seen.seconds, seen.requests, seen.p50_ms, seen.p99_ms, seen.max_ms,
        bad_statuses=0, socket_errors=0, client_cpu_s=0.0,
    )  # fmt: skip
    capacity_s = seen.seconds * (psutil.cpu_count() or 1)
    # Loading the model is in `busy` and not in `cpu_s`: it is nobody else's work.
    others_s = min(busy[0], seen.cpu_s)
    return to_round(load, seen.cpu_s, busy_s=others_s, capacity_s=capacity_s)


def _run(name: str, model: Model, arguments: Sequence[str], *, threads: int) -> bytes:
    cases = str(model.onnx.parent / "cases.npz")
    command = [sys.executable, program(name), cases, *arguments]
    environment = os.environ | settings(model, THREADS=str(threads))
    try:
        done = subprocess.run(
            command, capture_output=True, env=environment, timeout=_MARGIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise LoadFailed(f"{name} had not ended after {_MARGIN_S} s") from None
    if done.returncode != 0:
        raise LoadFailed(f"{name} failed:\n{done.stderr.decode()[-1500:]}")
    return done.stdout
