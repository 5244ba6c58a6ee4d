"""Callers that speak HTTP wrongly, slowly or not at all, on a real server."""

import asyncio
import gc
import json
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import uvicorn
from uvicorn.server import ServerState

from modelyard.api.addresses import bind_http
from modelyard.api.http.cycles import InferenceCycle
from modelyard.api.http.oip import OipCodec
from modelyard.api.http.protocol import InferenceProtocol
from modelyard.api.http.surroundings import Surroundings
from modelyard.api.http.wire import Answer, Headers, Question
from modelyard.core.call import Call, Outcome
from modelyard.core.datatypes import Datatype
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature, TensorSpec
from modelyard.gateway.open_access import OpenAccess
from modelyard.gateway.open_gate import OpenGate
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.exchange import LocalExchange
from modelyard.testing.serving import FunctionRuntime, Serving, endpoint_of, serving
from tests.unit.api.http.conftest import VECTOR, Wire

BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
).encode()
LARGE = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 3)),), (TensorSpec("y", Datatype.FP32, (-1, 100_000)),)
)
INFER = "/v2/models/vector/infer"


def post(path: str, *headers: str, body: bytes = BODY) -> bytes:
    if not any(
        line.lower().startswith(("content-length", "transfer-encoding")) for line in headers
    ):
        headers = (*headers, f"Content-Length: {len(body)}")
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: t", *headers, "", ""]).encode() + body


GOOD = post(INFER)
GET = b"GET /v2 HTTP/1.1\r\nHost: t\r\n\r\n"
CHUNKED = "Transfer-Encoding: chunked"
LENGTH = f"Content-Length: {len(BODY)}"


@pytest.mark.parametrize(
    "data",
    [
        post(INFER, LENGTH, CHUNKED),
        post(INFER, LENGTH, LENGTH),
        post(INFER, LENGTH, "Content-Length: 3"),
        post(INFER, "Content-Length: -1"),
        post(INFER, f"Content-Length: +{len(BODY)}"),
        post(INFER, "Content-Length: 99999999999999999999999999"),
        post(INFER, CHUNKED, body=b"zz\r\n"),
        post(INFER, CHUNKED, body=b"5\r\nhelloXX"),
        post(INFER, CHUNKED, body=b"ffffffffffffffffff\r\n"),
        post(INFER, "Transfer-Encoding: chunked, identity", body=b"0\r\n\r\n"),
        GOOD.replace(b"\r\n", b"\n"),
        post(INFER, "X-A: b\r\n c"),
        post(INFER, "X-A: b\0c"),
        post(INFER, "X-A : b"),
        post("/v2/models/ve\0ctor/infer"),
        GOOD.replace(b"HTTP/1.1", b"HTTP/1.2"),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_bad_framing_is_refused_in_our_own_words(connect: Callable[[], Any], data: bytes) -> None:
    """What two parsers could read in two ways is a 400 like any other, and the connection ends."""
    wire = connect()
    wire.send(data)
    status, headers, body = wire.response()
    assert (status, headers["connection"]) == (400, "close")
    assert json.loads(body)["code"] == "bad_http"


@pytest.mark.parametrize("before", [[GOOD], [GET], [GET, GOOD], [GOOD, GET, GOOD]])
@pytest.mark.parametrize("bad", [b"\x00\x01\r\n\r\n", post(INFER, CHUNKED, body=b"zz\r\n")])
def test_answers_that_are_due_come_before_a_refusal(
    connect: Callable[[], Any], before: list[bytes], bad: bytes
) -> None:
    """Nonsense behind good requests on one connection does not cost them their answers."""
    wire = connect()
    wire.send(b"".join(before) + bad + GOOD)
    answers = [wire.response() for _ in range(len(before) + 1)]
    assert [status for status, _, _ in answers] == [200] * len(before) + [400]
    assert answers[-1][1]["connection"] == "close"


def test_an_offer_of_another_protocol_is_declined_by_answering(connect: Callable[[], Any]) -> None:
    """`curl --http2` offers h2c with its request, body and all, and gets its answer in HTTP/1.1."""
    wire = connect()
    offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABk")
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)
    wire.send(post(INFER, *offer) * 2 + post(INFER, *offer, CHUNKED, body=chunks) + GOOD)
    for _ in range(4):
        status, _, body = wire.response()
        assert (status, json.loads(body)["outputs"][0]["data"]) == (200, [2, 4, 6])


def test_a_tunnel_is_refused(connect: Callable[[], Any]) -> None:
    """CONNECT is answered, and nothing behind it is read."""
    wire = connect()
    wire.send(b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n" + GOOD)
    status, headers, _ = wire.response()
    assert (status, headers["connection"]) == (405, "close")


def test_a_url_with_its_host_is_read(connect: Callable[[], Any]) -> None:
    """The absolute form, which RFC 9112 bids every server accept, finds the same model."""
    wire = connect()
    wire.send(post("http://somewhere:80" + INFER) + post("http://somewhere") + GOOD)
    assert [wire.response()[0] for _ in range(3)] == [200, 405, 200]


def test_a_request_may_be_cut_anywhere(connect: Callable[[], Any]) -> None:
    """Two requests cut in two at any byte are the same two requests."""
    data = GOOD + post(INFER, CHUNKED, body=b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
    wire = connect()
    for cut in range(1, len(data)):
        wire.send(data[:cut])
        wire.send(data[cut:])
        assert [wire.response()[0] for _ in range(2)] == [200, 200]


def large_runtime() -> FunctionRuntime:
    return FunctionRuntime(
        LARGE, lambda inputs: {"y": np.zeros((len(inputs["x"]), 100_000), np.float32)}
    )


def test_small_answers_do_not_wait_for_each_other() -> None:
    """The listening socket says that it is TCP, without which asyncio leaves Nagle's delay on."""
    with bind_http("127.0.0.1", 0) as bound:
        assert bound.proto == socket.IPPROTO_TCP


class Slow:
    """A model that waits until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.go = threading.Event()

    def __call__(self, inputs: Arrays) -> Arrays:
        self.entered.release()
        assert self.go.wait(20)
        return {"y": inputs["x"] * 2}


@pytest.fixture
def slow() -> Iterator[Slow]:
    model = Slow()
    yield model
    model.go.set()


@pytest.fixture
def slow_server(slow: Slow) -> Iterator[Serving]:
    runtimes = {"vector": FunctionRuntime(VECTOR, slow), "large": large_runtime()}
    with serving(runtimes, cost_us=1e6) as running:
        yield running
        slow.go.set()


def test_a_thousand_requests_behind_a_slow_one_are_answered(
    slow_server: Serving, slow: Slow
) -> None:
    """However many pipelined requests are due at once, they are answered one after another."""
    wire = Wire(slow_server.url)
    wire.send(GOOD + post("/predict/nothing", body=b"") * 1500)
    assert slow.entered.acquire(timeout=10)
    slow.go.set()
    assert wire.response()[0] == 200
    assert all(wire.response()[0] == 404 for _ in range(1500))
    wire.close()


def test_the_bound_of_a_head_is_not_that_of_what_comes_before_it(
    slow_server: Serving, slow: Slow
) -> None:
    """Short requests that arrive as hundreds of kilobytes at once are answered."""
    wire = Wire(slow_server.url)
    every = GOOD * 3000
    slow.go.set()
    for start in range(0, len(every), 200_000):
        wire.send(every[start : start + 200_000])
    assert all(wire.response()[0] == 200 for _ in range(3000))
    wire.close()


def test_a_half_closed_connection_is_answered(slow_server: Serving, slow: Slow) -> None:
    """A caller who has sent all it has to say, as `nc -N` does, still gets its answers."""
    wire = Wire(slow_server.url)
    wire.send(GOOD + GET)
    wire.shut()
    assert slow.entered.acquire(timeout=10)
    slow_server.on_loop(lambda: None)
    slow.go.set()
    assert [wire.response()[0] for _ in range(2)] == [200, 200]
    assert wire.ends()
    wire.close()


def test_a_caller_who_does_not_read_is_not_served_on(slow_server: Serving) -> None:
    """What is written for one connection stays bounded, and comes in full once it is read."""
    wire = Wire(slow_server.url)
    wire.send(post("/v2/models/large/infer") * 400)
    gate, seen, still = slow_server.gate, -1, 0
    while still < 100:
        slow_server.on_loop(lambda: None)
        still = still + 1 if gate.admitted == seen and gate.settled.total() == seen else 0
        seen = gate.admitted
    assert 0 < seen < 200
    assert all(wire.response()[0] == 200 for _ in range(400))
    wire.close()


async def converse(
    act: Callable[[InferenceProtocol, socket.socket], Any], *endpoints: Endpoint
) -> None:
    """One connection to a protocol of our own, so that its clock can be turned."""
    loop = asyncio.get_running_loop()
    exchange = LocalExchange()
    for endpoint in (*endpoints, endpoint_of(large_runtime(), model="large")):
        exchange.install(endpoint)

    async def nothing(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    made: asyncio.Future[InferenceProtocol] = loop.create_future()

    class Tracked(InferenceProtocol):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            made.set_result(self)

    server = await loop.create_server(
        lambda: Tracked(
            uvicorn.Config(nothing, log_config=None, lifespan="off", ws="none"),
            ServerState(),
            {},
            surroundings=Surroundings(exchange, OpenAccess(), max_body_bytes=1024 * 1024),
        ),
        "127.0.0.1",
        0,
    )
    with socket.create_connection(server.sockets[0].getsockname()) as caller:
        caller.setblocking(False)
        await act(await made, caller)
    server.close()
    await server.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


def test_a_caller_who_leaves_a_pipeline_is_settled(slow: Slow) -> None:
    """The call that runs is cancelled when its caller goes, and those behind it never begin."""
    gate = OpenGate()

    async def act(protocol: InferenceProtocol, caller: socket.socket) -> None:
        await asyncio.get_running_loop().sock_sendall(caller, GOOD * 3)
        assert await asyncio.to_thread(slow.entered.acquire, timeout=10)
        await until(lambda: len(protocol.pipeline) == 2)
        protocol.transport.abort()
        await until(lambda: protocol.parser is None)
        assert gate.settled == {Outcome.CLIENT_GONE: 1}
        slow.go.set()
        await until(lambda: endpoint.open_calls == 0)
        assert gate.admitted == 1

    endpoint = endpoint_of(FunctionRuntime(VECTOR, slow), model="vector", cost_us=1e6, gate=gate)
    asyncio.run(converse(act, endpoint))


@pytest.mark.parametrize(
    "start", [b"POST /predict/large HTTP/1.1\r\n", post("/predict/large", "Content-Length: 9999")]
)
def test_a_request_that_dribbles_in_is_given_up(start: bytes) -> None:
    """A byte now and then does not keep a connection open for ever."""

    async def act(protocol: InferenceProtocol, caller: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await loop.sock_sendall(caller, start)
        await until(lambda: protocol.idle_since > begun and bool(protocol.url))
        protocol.close_if_idle(loop.time() + 29, keep_alive_s=75, head_s=30)
        assert not protocol.transport.is_closing()
        # As if the latest byte had come just now.
        protocol.idle_since = loop.time() + 60
        protocol.close_if_idle(loop.time() + 61, keep_alive_s=75, head_s=30)
        assert protocol.transport.is_closing()

    asyncio.run(converse(act))


def test_an_answer_that_nobody_reads_is_given_up() -> None:
    """A connection whose caller never reads is cut, though closing it in order would wait."""

    async def act(protocol: InferenceProtocol, caller: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(caller, post("/v2/models/large/infer") * 100)
        await until(lambda: protocol.flow is not None and protocol.flow.write_paused)
        protocol.close_if_idle(loop.time(), keep_alive_s=75, head_s=30)
        protocol.close_if_idle(loop.time() + 70, keep_alive_s=75, head_s=30)
        assert not protocol.transport.is_closing()
        protocol.close_if_idle(loop.time() + 80, keep_alive_s=75, head_s=30)
        await until(lambda: protocol.parser is None)

    asyncio.run(converse(act))


class SlowReader:
    """A codec that takes its time over a body."""

    def __init__(self, codec: OipCodec) -> None:
        self.codec = codec
        self.entered, self.go = threading.Event(), threading.Event()

    def read(self, headers: Headers, body: bytes) -> Question:
        self.entered.set()
        assert self.go.wait(20)
        return self.codec.read(headers, body)


@pytest.mark.parametrize("swapped", [False, True])
def test_a_large_body_is_read_beside_the_loop(*, swapped: bool) -> None:
    """While one is read others are answered, and a swap meanwhile is no harm to it."""
    runtime = FunctionRuntime(VECTOR, lambda inputs: {"y": inputs["x"] * 2})
    large = BODY + b" " * 300_000
    with serving({"vector": runtime}) as server:
        served = server.exchange.find("vector")
        reader = served.cache["oip"] = SlowReader(OipCodec(served))
        wire, other = Wire(server.url), Wire(server.url)
        wire.send(post(INFER, body=large))
        assert reader.entered.wait(10)
        other.send(b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n")
        assert other.response()[0] == 200
        if swapped:
            server.on_loop(
                lambda: server.exchange.install(endpoint_of(runtime, model="vector", version=2))
            )
        reader.go.set()
        status, _, body = wire.response()
        assert (status, json.loads(body)["model_version"]) == (200, "2" if swapped else "1")
        wire.close()
        other.close()


class SlowWriter:
    """A codec that takes its time over an answer."""

    def __init__(self, codec: OipCodec) -> None:
        self.codec = codec
        self.entered, self.go = threading.Event(), threading.Event()

    def read(self, headers: Headers, body: bytes) -> Question:
        question = self.codec.read(headers, body)

        def write(call: Call) -> Answer:
            self.entered.set()
            assert self.go.wait(20)
            return question.write(call)

        return Question(question.inputs, question.rows, write)


def rows_of(count: int) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [count, 3], "data": [1, 2, 3] * count}
    return json.dumps({"inputs": [tensor]}).encode()


@pytest.mark.parametrize("leaves", [False, True])
def test_a_large_answer_is_written_beside_the_loop(*, leaves: bool) -> None:
    """While one is written others are answered, and its own caller may leave meanwhile."""
    runtime = FunctionRuntime(VECTOR, lambda inputs: {"y": inputs["x"] * 2})
    with serving({"vector": runtime}) as server:
        served = server.exchange.find("vector")
        writer = served.cache["oip"] = SlowWriter(OipCodec(served))
        wire, other = Wire(server.url), Wire(server.url)
        wire.send(post(INFER, body=rows_of(50_000)))
        assert writer.entered.wait(10)
        other.send(b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n")
        assert other.response()[0] == 200
        if leaves:
            wire.close()
        writer.go.set()
        if not leaves:
            status, _, body = wire.response()
            assert (status, y_of(body)) == (200, [2, 4, 6] * 50_000)
        other.send(post(INFER, body=rows_of(50_000)))
        assert y_of(other.response()[2]) == [2, 4, 6] * 50_000
        assert gc.isenabled()
        wire.close()
        other.close()


def y_of(body: bytes) -> list[float]:
    data: list[float] = json.loads(body)["outputs"][0]["data"]
    return data


def test_a_caller_who_leaves_while_its_body_is_read_makes_no_call() -> None:
    """What is read for nobody is not run."""
    runtime = FunctionRuntime(VECTOR, lambda inputs: {"y": inputs["x"] * 2})
    with serving({"vector": runtime}) as server:
        served = server.exchange.find("vector")
        reader = served.cache["oip"] = SlowReader(OipCodec(served))
        wire = Wire(server.url)
        wire.send(post(INFER, "Connection: close", body=BODY + b" " * 300_000))
        assert reader.entered.wait(10)
        server.on_loop(lambda: next(iter(connections(server))).transport.abort())
        while connections(server):
            server.on_loop(lambda: None)
        reader.go.set()
        # One thread reads: when the next large body is answered, the first has been dealt with.
        again = Wire(server.url)
        again.send(post(INFER, body=BODY + b" " * 300_000))
        assert again.response()[0] == 200
        assert server.gate.admitted == 1
        wire.close()
        again.close()


def test_a_body_whose_caller_has_gone_is_let_go() -> None:
    """At once, and not when garbage is next collected."""
    runtime = FunctionRuntime(VECTOR, lambda inputs: {"y": inputs["x"] * 2})
    with serving({"vector": runtime}) as server:
        wire = Wire(server.url)
        wire.send(post(INFER, body=BODY + b" " * 300_000)[:-1])
        gc.disable()
        try:
            while not any(len(each.content) > 200_000 for each in requests()):
                server.on_loop(lambda: None)
            wire.close()
            while connections(server):
                server.on_loop(lambda: None)
            assert not any(each.content for each in requests())
        finally:
            gc.enable()


def requests() -> list[InferenceCycle]:
    return [each for each in gc.get_objects() if isinstance(each, InferenceCycle)]


def connections(server: Serving) -> list[InferenceProtocol]:
    return [
        each
        for each in gc.get_objects()
        if isinstance(each, InferenceProtocol) and each.loop is server.loop and each.parser
    ]
