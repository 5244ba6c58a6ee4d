"""One process of the gRPC load: a JSON job on standard input, a JSON answer on standard output.

Messages are bytes that others encoded and decode, so that what is paid here is gRPC and nothing
else. Every status is looked at: what is not OK counts as an error.
"""

import asyncio
import sys
import time
from base64 import b64encode
from pathlib import Path

import grpc
import msgspec

_TIMEOUT_S = 30
_OPTIONS = [
    # One TCP connection a channel, as wrk has: channels of one target share theirs by default.
    ("grpc.use_local_subchannel_pool", 1),
    # A server that is just starting refuses at first, and must not be left alone for seconds.
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 200),
]


class Job(msgspec.Struct, frozen=True):
    """What to ask, from whom, over how many connections; for no time at all: each body once."""

    target: str
    method: str
    bodies: str
    """A file: a msgpack list of messages."""
    connections: int
    seconds: float
    first: int = 0
    """The body that the first connection begins with."""


class Answers(msgspec.Struct, frozen=True):
    """What came back: latencies in microseconds, or the answers themselves in the bodies' order."""

    seconds: float
    cpu_s: float
    errors: int
    latencies_us: list[int] = []
    answers: list[str] = []
    refusal: str = ""


async def work(job: Job) -> Answers:
    """Connect, say so, wait for a line, and ask."""
    bodies = msgspec.msgpack.decode(Path(job.bodies).read_bytes(), type=list[bytes])
    channels = [
        grpc.aio.insecure_channel(job.target, options=_OPTIONS) for _ in range(job.connections)
    ]
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            await asyncio.gather(*(channel.channel_ready() for channel in channels))
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        calls = [channel.unary_unary(job.method) for channel in channels]
        return await (load(job, calls, bodies) if job.seconds else ask(calls, bodies))
    finally:
        await asyncio.gather(*(channel.close() for channel in channels))


async def load(
    job: Job, calls: list[grpc.aio.UnaryUnaryMultiCallable], bodies: list[bytes]
) -> Answers:
    """Each connection asks one body after the other until the time is over."""
    latencies: list[int] = []
    errors = 0
    refusal = ""
    cpu = time.process_time()
    started = time.perf_counter()

    async def connection(call: grpc.aio.UnaryUnaryMultiCallable, turn: int) -> None:
        nonlocal errors, refusal
        while (before := time.perf_counter()) - started < job.seconds:
            try:
                await call(bodies[turn % len(bodies)], timeout=_TIMEOUT_S)
            except grpc.aio.AioRpcError as error:
                errors += 1
                refusal = f"{error.code()}: {error.details()}"
            latencies.append(int((time.perf_counter() - before) * 1e6))
            turn += 1

    await asyncio.gather(*(connection(call, job.first + at) for at, call in enumerate(calls)))
    seconds = time.perf_counter() - started
    return Answers(
        seconds, time.process_time() - cpu, errors, latencies_us=latencies, refusal=refusal
    )


async def ask(calls: list[grpc.aio.UnaryUnaryMultiCallable], bodies: list[bytes]) -> Answers:
    """Each body once, as many at a time as there are connections."""
    answers = [""] * len(bodies)
    turns = iter(range(len(bodies)))
    started = time.perf_counter()

    async def connection(call: grpc.aio.UnaryUnaryMultiCallable) -> None:
        for turn in turns:
            answers[turn] = b64encode(await call(bodies[turn], timeout=_TIMEOUT_S)).decode()

    try:
        await asyncio.gather(*(connection(call) for call in calls))
    except grpc.aio.AioRpcError as error:
        return Answers(0, 0, 1, refusal=f"{error.code()}: {error.details()}")
    return Answers(time.perf_counter() - started, time.process_time(), 0, answers=answers)


if __name__ == "__main__":
    job = msgspec.json.decode(sys.stdin.readline(), type=Job)
    print(msgspec.json.encode(asyncio.run(work(job))).decode(), flush=True)
