"""Heads that came before are not parsed again, and nobody can tell but by the clock."""

import asyncio
import json
import socket
from typing import Any

import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from modelyard.api.http.protocol import InferenceProtocol
from modelyard.api.http.surroundings import KnownHead, Surroundings
from modelyard.gateway.open_access import OpenAccess
from modelyard.serving.exchange import LocalExchange
from modelyard.testing.serving import FunctionRuntime, endpoint_of
from tests.unit.api.http.conftest import VECTOR


class Transport:
    """Takes what is written, as a socket would."""

    def __init__(self) -> None:
        self.written = b""
        self.is_closed = False

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.written += data

    def close(self) -> None:
        self.is_closed = True

    abort = close

    def is_closing(self) -> bool:
        return self.is_closed

    def get_extra_info(self, name: str, default: object = None) -> object:
        return ("127.0.0.1", 1) if name in ("peername", "sockname") else default

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


class Forgetful(Surroundings):
    """Learns no head: every request is parsed."""

    def learn(self, head: bytes, known: KnownHead) -> None: ...


def surroundings(kind: type[Surroundings] = Surroundings) -> Surroundings:
    exchange = LocalExchange()
    exchange.install(
        endpoint_of(FunctionRuntime(VECTOR, lambda inputs: {"y": inputs["x"] * 2}), model="vector")
    )
    exchange.mark_synced()
    return kind(exchange, OpenAccess(), max_body_bytes=4096)


async def application(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 404, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def connect(around: Surroundings) -> tuple[InferenceProtocol, Transport]:
    config = uvicorn.Config(application, log_config=None, lifespan="off", ws="none")
    config.load()
    protocol = InferenceProtocol(config, ServerState(), {}, surroundings=around)
    transport = Transport()
    protocol.connection_made(transport)  # type: ignore[arg-type]
    return protocol, transport


async def converse(around: Surroundings, chunks: list[bytes]) -> tuple[bytes, bool]:
    protocol, transport = connect(around)
    for chunk in chunks:
        if transport.is_closed:
            break
        protocol.data_received(chunk)
        # A model that took long once, on a busy machine, runs in a lane the next time.
        while _is_answering(protocol):
            await asyncio.sleep(0)
    protocol.connection_lost(None)
    return transport.written, transport.is_closed


def _is_answering(protocol: InferenceProtocol) -> bool:
    running = protocol._running
    return running is not None and not running.response_complete and not running.more_body


def body(*values: float) -> bytes:
    return json.dumps(
        {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": values}]}
    ).encode()


def post(data: bytes, *lines: str, path: str = "/v2/models/vector/infer") -> bytes:
    head = (f"POST {path} HTTP/1.1", "Host: t", *lines, f"Content-Length: {len(data)}", "", "")
    return "\r\n".join(head).encode() + data


ONE, TWO, BAD = post(body(1, 2, 3)), post(body(4, 5, 6)), post(b"[1, 2, 3]")
REQUESTS = st.sampled_from(
    [
        ONE,
        TWO,
        ONE,
        TWO,
        BAD,
        post(body(7, 8, 9), "Connection: close"),
        post(body(1, 2, 3), "X-Request-Id: a"),
        post(body(1, 2, 3), "Expect: 100-continue"),
        post(body(1, 2, 3), path="/v2/models/absent/infer"),
        post(body(1, 2, 3), path="/nowhere"),
        b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n",
        b"POST /v2/models/vector/infer HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body(1, 2, 3)), body(1, 2, 3)),
        b"POST /v2/models/vector/infer HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
        b"nonsense\r\n\r\n",
        ONE[:40],
        ONE[40:],
        b"POS",
        b"\r\n\r\n",
    ]
)


@given(st.lists(REQUESTS, max_size=12), st.data())
def test_a_known_head_changes_no_answer(requests: list[bytes], data: st.DataObject) -> None:
    """Whatever is sent, and however it is cut, they are the answers of a server that parses all."""
    chunks = requests
    if data.draw(st.booleans(), label="cut anew"):
        whole = b"".join(requests)
        cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=6), label="cuts"))
        chunks = [whole[a:b] for a, b in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
        chunks = [chunk for chunk in chunks if chunk]
    learning, parsing = surroundings(), surroundings(Forgetful)

    async def go() -> None:
        # Twice, so that the second conversation finds what the first has taught.
        for _ in range(2):
            assert await converse(learning, chunks) == await converse(parsing, chunks)

    asyncio.run(go())


def test_a_head_is_learned_the_second_time() -> None:
    """Two of the same in a row are learned; one alone, or one that changes each time, is not."""

    async def go() -> None:
        around = surroundings()
        await converse(around, [ONE])
        await converse(around, [post(body(1, 2, 3), f"X-Request-Id: {n}") for n in range(20)])
        assert not around.heads
        await converse(around, [ONE, TWO, ONE])
        assert len(around.heads) == 1

    asyncio.run(go())


def test_what_is_learned_is_bounded() -> None:
    """Callers cannot fill memory with heads."""

    async def go() -> None:
        around = surroundings()
        for n in range(1100):
            request = post(body(1, 2, 3), f"X-Number: {n}")
            await converse(around, [request, request])
        assert 0 < len(around.heads) <= 1024
        around.heads.clear()
        long = post(body(1, 2, 3), "X-Long: " + "x" * 5000)
        await converse(around, [long, long])
        assert not around.heads

    asyncio.run(go())


class Told(InferenceProtocol):
    """Says when it has begun, and when its connection has ended."""

    def __init__(self, around: Surroundings) -> None:
        config = uvicorn.Config(application, log_config=None, lifespan="off", ws="none")
        config.load()
        super().__init__(config, ServerState(), {}, surroundings=around)
        self.has_begun, self.has_ended = asyncio.Event(), asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.has_begun.set()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.has_ended.set()


async def connected(
    protocol: Told,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A caller of this protocol."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    await asyncio.get_running_loop().connect_accepted_socket(lambda: protocol, theirs)
    return await asyncio.open_connection(sock=ours)


async def end(writer: asyncio.StreamWriter, *protocols: Told) -> None:
    writer.close()
    await writer.wait_closed()
    async with asyncio.timeout(10):
        for protocol in protocols:
            await protocol.has_ended.wait()


async def answer(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head, await reader.readexactly(length)


def test_a_connection_changes_hands_between_two_requests() -> None:
    """A released connection is served on by another protocol; what was unread is answered there."""

    async def go() -> None:
        loop = asyncio.get_running_loop()
        around = surroundings()
        first, second = Told(around), Told(surroundings())
        reader, writer = await connected(first)
        taken: asyncio.Future[socket.socket] = loop.create_future()
        writer.write(ONE)
        while first.cycle is None:
            await asyncio.sleep(0)
        first.release(taken.set_result)
        assert not taken.done()
        assert b"6.0" in (await asyncio.wait_for(answer(reader), 10))[1]
        handed = await asyncio.wait_for(taken, 10)
        writer.write(TWO)
        await loop.connect_accepted_socket(lambda: second, handed)
        head, data = await asyncio.wait_for(answer(reader), 10)
        assert b"12.0" in data
        assert b"connection: close" not in head
        assert not around.heads
        await end(writer, first, second)

    asyncio.run(go())


def test_a_stopping_server_answers_what_is_on_its_way() -> None:
    """After `finish_soon` a request that comes is answered, and told that it was the last."""

    async def go() -> None:
        protocol = Told(surroundings())
        reader, writer = await connected(protocol)
        await protocol.has_begun.wait()
        protocol.finish_soon()
        writer.write(ONE)
        head, data = await asyncio.wait_for(answer(reader), 10)
        assert b"connection: close" in head
        assert b"6.0" in data
        assert await reader.read() == b""
        await end(writer, protocol)

    asyncio.run(go())


def test_a_silent_connection_is_closed_when_the_server_stops() -> None:
    """One that asks for nothing more is closed a moment after `finish_soon`."""

    async def go() -> None:
        protocol = Told(surroundings())
        reader, writer = await connected(protocol)
        await protocol.has_begun.wait()
        protocol.finish_soon()
        assert await asyncio.wait_for(reader.read(), 10) == b""
        await end(writer, protocol)

    asyncio.run(go())
