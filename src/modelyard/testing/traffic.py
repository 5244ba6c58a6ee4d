"""Steady traffic from a process of its own, which counts every request that was not answered well.

What a server promises of swaps, drains and crashes is told by its callers: how many requests were
lost (sent, and the connection ended without an answer), wrong (an answer that nobody expects) or
refused. Run by `driving`; by hand: `python -m modelyard.testing.traffic --help`.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Final
from urllib.parse import urlsplit

import msgspec

_TELL_S: Final = 0.05
_RECONNECT_S: Final = 0.02
_PATIENCE_S: Final = 60.0
_MOST_NOTES: Final = 10
_OWN_CONNECTION: Final = (
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_CANNOT_CONNECT: Final = b"failed to connect"
_CUT: Final = re.compile(b"(?i)socket closed|connection reset|broken pipe|end of tcp|end of file")
"""What grpcio says when a connection has ended under a call, as against what a server answers."""


@dataclass
class Tally:
    """What became of the requests so far.

    `answered` counts good answers by the name of what was expected, `statuses` other HTTP or gRPC
    statuses, `lost` requests without any answer, `wrong` good statuses with an unexpected answer,
    `unconnected` attempts to connect that failed, `told_to_close` answers after which the server
    would close. `slowest_ms` is the longest wait for an answer, `p99_ms` that of all since the
    last telling.
    """

    sent: int = 0
    answered: dict[str, int] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    wrong: int = 0
    unconnected: int = 0
    told_to_close: int = 0
    slowest_ms: float = 0.0
    p99_ms: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def good(self) -> int:
        """Answers that were expected."""
        return sum(self.answered.values())

    @property
    def bad(self) -> int:
        """Requests that were lost, answered wrongly, or refused."""
        return self.lost + self.wrong + sum(self.statuses.values())


class Ask(msgspec.Struct, frozen=True):
    """A request's body, and what may come back.

    `expected` maps a name to a piece of the body that only an answer of that name holds.
    """

    body: bytes
    expected: dict[str, bytes]


class Plan(msgspec.Struct, frozen=True):
    """What to send to one path (`http://`) or gRPC method (`grpc://`).

    Each connection goes round the asks and begins with another, so that an answer which belongs to
    somebody else is seen to be wrong. `per_second`, over all connections, paces them; 0 sends the
    next request as soon as the last is answered. `headers` are lines, as `Name: value`, and go as
    metadata over gRPC.
    """

    url: str
    asks: tuple[Ask, ...]
    connections: int = 8
    per_second: float = 0.0
    headers: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """As one line of JSON."""
        return msgspec.json.encode(self) + b"\n"

    @staticmethod
    def decode(line: bytes) -> "Plan":
        """Back from `encode`."""
        return msgspec.json.decode(line, type=Plan)


class Traffic:
    """Sends a plan's requests until it is stopped."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.tally = Tally()
        self._answered: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()
        self._waits: list[float] = []
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Send no more; what was sent is still waited for."""
        self._stopping.set()

    async def run(self) -> None:
        """Drive all connections until `stop`."""
        drive = self._drive_grpc if self.plan.url.startswith("grpc://") else self._drive_http
        await asyncio.gather(*(drive(number) for number in range(self.plan.connections)))

    def told(self) -> Tally:
        """The tally now; the waits since the last telling are forgotten."""
        waits, self._waits = sorted(self._waits), []
        if waits:
            self.tally.p99_ms = waits[min(len(waits) - 1, len(waits) * 99 // 100)] * 1000
            self.tally.slowest_ms = max(self.tally.slowest_ms, waits[-1] * 1000)
        self.tally.answered = dict(self._answered)
        self.tally.statuses = dict(self._statuses)
        return self.tally

    def _asks(self, number: int) -> Iterator[Ask]:
        asks = self.plan.asks
        return itertools.islice(itertools.cycle(asks), number % len(asks), None)

    async def _drive_http(self, number: int) -> None:
        parts = urlsplit(self.plan.url)
        asks = self._asks(number)
        while not self._stopping.is_set():
            try:
                reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            except OSError as error:
                await self._wait_unconnected(repr(error))
                continue
            try:
                await self._converse(reader, writer, asks)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    async def _converse(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asks: Iterator[Ask]
    ) -> None:
        while not self._stopping.is_set() and not reader.at_eof():
            ask = next(asks)
            began = time.perf_counter()
            self.tally.sent += 1
            try:
                writer.write(self._request(ask.body))
                await writer.drain()
                async with asyncio.timeout(_PATIENCE_S):
                    status, stays, body = await _answer(reader)
            except (OSError, EOFError, TimeoutError) as error:
                self._note_lost(repr(error))
                return
            self._waits.append(time.perf_counter() - began)
            self._judge(ask, status, body, well="200")
            if not stays:
                self.tally.told_to_close += 1
                return
            await self._pace(began)

    def _request(self, body: bytes) -> bytes:
        parts = urlsplit(self.plan.url)
        lines = (
            f"POST {parts.path} HTTP/1.1",
            f"Host: {parts.netloc}",
            f"Content-Length: {len(body)}",
            *self.plan.headers,
        )
        return "\r\n".join((*lines, "", "")).encode() + body

    async def _drive_grpc(self, number: int) -> None:
        import grpc

        parts = urlsplit(self.plan.url)
        async with grpc.aio.insecure_channel(parts.netloc, options=_OWN_CONNECTION) as channel:
            call = channel.unary_unary(parts.path)
            lines = (line.split(": ", 1) for line in self.plan.headers)
            metadata = tuple((name.lower(), value) for name, value in lines)
            for ask in self._asks(number):
                if self._stopping.is_set():
                    return
                began = time.perf_counter()
                self.tally.sent += 1
                try:
                    body = await call(ask.body, metadata=metadata, timeout=_PATIENCE_S)
                    status = "OK"
                except grpc.aio.AioRpcError as error:
                    body, status = (error.details() or "").encode(), error.code().name
                if status == "UNAVAILABLE" and body.startswith(_CANNOT_CONNECT):
                    # This one was never sent.
                    self.tally.sent -= 1
                    await self._wait_unconnected(body.decode())
                    continue
                self._waits.append(time.perf_counter() - began)
                if status == "UNAVAILABLE" and _CUT.search(body):
                    self._note_lost(body.decode())
                else:
                    self._judge(ask, status, body, well="OK")
                await self._pace(began)

    def _judge(self, ask: Ask, status: str, body: bytes, *, well: str) -> None:
        if status != well:
            self._statuses[status] += 1
            self._note(f"{status} {body[:200]!r}")
            return
        for name, piece in ask.expected.items():
            if piece in body:
                self._answered[name] += 1
                return
        self.tally.wrong += 1
        self._note(f"unexpected {body[:200]!r}")

    async def _wait_unconnected(self, why: str) -> None:
        self.tally.unconnected += 1
        self._note(f"unconnected: {why}")
        await asyncio.sleep(_RECONNECT_S)

    def _note_lost(self, why: str) -> None:
        self.tally.lost += 1
        self._note(f"lost: {why}")

    def _note(self, text: str) -> None:
        if len(self.tally.notes) < _MOST_NOTES:
            self.tally.notes.append(text)

    async def _pace(self, began: float) -> None:
        if self.plan.per_second:
            each_s = self.plan.connections / self.plan.per_second
            rest_s = began + each_s - time.perf_counter()
            if rest_s > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), rest_s)


async def _answer(reader: asyncio.StreamReader) -> tuple[str, bool, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(head.split("content-length:", 1)[1].split("\r\n", 1)[0])
    body = await reader.readexactly(length)
    return head.split(" ", 2)[1], "connection: close" not in head, body


class Driven:
    """Traffic that runs in another process."""

    def __init__(self, plan: Plan, process: "subprocess.Popen[bytes]") -> None:
        self.plan = plan
        self._process = process
        self._tally = Tally()
        self._told = threading.Condition()
        self._reader = threading.Thread(target=self._listen, daemon=True)
        self._reader.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._told:
                self._tally = Tally(**json.loads(line))
                self._told.notify_all()

    @property
    def tally(self) -> Tally:
        """The latest telling, some fifty milliseconds old at most."""
        with self._told:
            return self._tally

    def wait(self, reached: Callable[[Tally], bool], timeout_s: float = 60.0) -> Tally:
        """The first telling that satisfies `reached`; raises `TimeoutError` with the last."""
        with self._told:
            if not self._told.wait_for(lambda: reached(self._tally), timeout_s):
                raise TimeoutError(f"not reached within {timeout_s} s: {self._tally}")
            return self._tally

    def more(self, count: int, timeout_s: float = 60.0) -> Tally:
        """Wait for so many further good answers."""
        goal = self.tally.good + count
        return self.wait(lambda tally: tally.good >= goal, timeout_s)

    def stop(self) -> Tally:
        """Send no more, wait for what was sent, and say what became of it all."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._reader.join(_PATIENCE_S + 10)
        self._process.wait(10)
        return self.tally


@contextlib.contextmanager
def driving(plan: Plan) -> Iterator[Driven]:
    """Traffic from a process of its own, until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "modelyard.testing.traffic"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin as line:
        line.write(plan.encode())
    driven = Driven(plan, process)
    try:
        yield driven
    finally:
        driven.stop()
        process.stdout.close()


async def _main(plan: Plan) -> None:
    traffic = Traffic(plan)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, traffic.stop)
    running = asyncio.create_task(traffic.run())
    while not running.done():
        await asyncio.wait({running}, timeout=_TELL_S)
        sys.stdout.write(json.dumps(asdict(traffic.told())) + "\n")
        sys.stdout.flush()
    await running


def main() -> None:
    """Read a plan from standard input or the command line, and tell the tally as JSON lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, prog="python -m modelyard.testing.traffic"
    )
    parser.add_argument("url", nargs="?", help="without it, a plan is read from standard input")
    parser.add_argument("--body", default="", help="file that holds the request's body")
    parser.add_argument("--header", action="append", default=[], help="as in 'X-API-Key: my_...'")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--per-second", type=float, default=0.0)
    chosen = parser.parse_args()
    if chosen.url is None:
        plan = Plan.decode(sys.stdin.buffer.readline())
    else:
        with open(chosen.body, "rb") as file:  # noqa: PTH123 - the name may be /dev/stdin
            body = file.read()
        plan = Plan(
            chosen.url,
            (Ask(body, {"answered": b""}),),
            connections=chosen.connections,
            per_second=chosen.per_second,
            headers=tuple(chosen.header),
        )
    asyncio.run(_main(plan))


if __name__ == "__main__":
    main()
