import gzip
import json
import threading
import zlib
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from backports import zstd

from modelyard.core.call import Call
from modelyard.core.datatypes import Datatype
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature, TensorSpec
from modelyard.testing.serving import FunctionRuntime, Serving, serving
from tests.unit.api.http.conftest import Wire

SIGNATURE = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, -1)),), (TensorSpec("y", Datatype.FP32, (-1, -1)),)
)
UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "zstd": zstd.decompress,
}


@pytest.fixture(scope="module")
def open_door() -> threading.Event:
    return threading.Event()


@pytest.fixture(scope="module")
def server(open_door: threading.Event) -> Iterator[Serving]:
    def wait(inputs: Arrays) -> Arrays:
        assert open_door.wait(30)
        return {"y": inputs["x"]}

    runtimes = {
        "echo": FunctionRuntime(SIGNATURE, lambda inputs: {"y": inputs["x"]}),
        "slow": FunctionRuntime(SIGNATURE, wait),
    }
    with serving(runtimes, cost_us=100_000.0) as running:
        yield running
        open_door.set()


def body(count: int, parameters: dict[str, object] | None = None) -> bytes:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, count], "data": [0.5] * count}
    return json.dumps({"inputs": [tensor], "parameters": parameters}).encode()


def ask(wire: Wire, content: bytes, *lines: str, model: str = "echo") -> None:
    head = [f"POST /v2/models/{model}/infer HTTP/1.1", "host: h", f"content-length: {len(content)}"]
    wire.send("\r\n".join([*head, *lines, "", ""]).encode() + content)


@pytest.mark.parametrize("name", list(UNPACK))
@pytest.mark.parametrize("count", [1000, 100_000])
def test_an_answer_is_packed_where_that_is_asked_for(
    connect: Callable[[], Wire], name: str, count: int
) -> None:
    """The coding is named, and what it unpacks to is the answer; large ones are packed aside."""
    wire = connect()
    for _ in range(3):
        ask(wire, body(count), f"accept-encoding: {name}")
        status, headers, packed = wire.response()
        assert (status, headers["content-encoding"]) == (200, name)
        output = json.loads(UNPACK[name](packed))["outputs"][0]
        assert output["shape"] == [1, count]
        assert len(packed) < 1000 + count // 10


def test_small_and_unasked_answers_are_sent_as_they_are(connect: Callable[[], Wire]) -> None:
    """Packing a few hundred bytes would save nobody anything."""
    wire = connect()
    ask(wire, body(1), "accept-encoding: gzip")
    _, headers, content = wire.response()
    assert "content-encoding" not in headers
    ask(wire, body(1000))
    _, headers, content = wire.response()
    assert "content-encoding" not in headers
    assert json.loads(content)["model_name"] == "echo"


def test_a_caller_who_takes_only_packed_answers_gets_small_ones_packed(
    connect: Callable[[], Wire],
) -> None:
    """`identity;q=0` is honoured, and a header that leaves nothing is refused before it is run."""
    wire = connect()
    ask(wire, body(1), "accept-encoding: gzip, identity;q=0")
    _, headers, packed = wire.response()
    assert headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(packed))["outputs"]
    ask(wire, body(1), "accept-encoding: *;q=0")
    status, _, content = wire.response()
    assert (status, json.loads(content)["code"]) == (406, "not_acceptable")


def test_a_packed_question_gets_a_packed_answer(server: Serving) -> None:
    """Both directions at once, as tritonclient does it."""
    answer = httpx.post(
        f"{server.url}/v2/models/echo/infer",
        content=zstd.compress(body(2000)),
        headers={"content-encoding": "zstd", "accept-encoding": "gzip"},
    )
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.json()["outputs"][0]["shape"] == [1, 2000]


def test_ids_in_headers_come_back(connect: Callable[[], Wire]) -> None:
    """On answers and on errors alike, byte for byte; what was not sent is not made up."""
    ids = {"x-request-id": "a-7", "x-ms-request-id": "ms", "x-ms-client-request-id": "client"}
    lines = [f"{name}: {value}" for name, value in ids.items()]
    wire = connect()
    for content, wanted in ((body(1), 200), (b"{", 400)):
        for _ in range(3):
            ask(wire, content, *lines)
            status, headers, _ = wire.response()
            assert status == wanted
            assert ids.items() <= headers.items()
    ask(wire, body(1))
    assert "x-request-id" not in wire.response()[1]


def test_a_folded_header_cannot_write_headers_of_its_own(connect: Callable[[], Wire]) -> None:
    """A value over two lines is refused or comes back as one line, never as a new header."""
    wire = connect()
    ask(wire, body(1), "x-request-id: a\r\n set-cookie: b")
    status, headers, _ = wire.response()
    assert status in (200, 400)
    assert "set-cookie" not in headers


@pytest.mark.parametrize(
    ("lines", "parameters"),
    [
        (["x-request-timeout-ms: 50"], None),
        (["x-request-timeout-ms: 50"], {"timeout": 60_000_000}),
        (["x-request-timeout-ms: 60000"], {"timeout": 50_000}),
        (["x-envoy-expected-rq-timeout-ms: 50", "x-request-timeout-ms: 60000"], None),
        ([], {"timeout": 50_000}),
    ],
)
def test_the_earliest_deadline_holds(
    connect: Callable[[], Wire], lines: list[str], parameters: dict[str, object] | None
) -> None:
    """The caller's header, its proxy's and the body's parameter: whoever waits least decides."""
    wire = connect()
    ask(wire, body(1, parameters), *lines, model="slow")
    status, _, content = wire.response()
    assert (status, json.loads(content)["kind"]) == (504, "timeout")


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "0", "9" * 13])
def test_a_timeout_that_is_no_number_is_refused(connect: Callable[[], Wire], value: str) -> None:
    """A deadline that nobody can read must not be forgotten silently."""
    wire = connect()
    ask(wire, body(1), f"x-request-timeout-ms: {value}")
    status, _, content = wire.response()
    assert (status, json.loads(content)["field"]) == (400, "x-request-timeout-ms")


def test_a_proxys_timeout_that_cannot_be_read_is_ignored(connect: Callable[[], Wire]) -> None:
    """The caller could do nothing about it."""
    wire = connect()
    ask(wire, body(1), "x-envoy-expected-rq-timeout-ms: nonsense")
    assert wire.response()[0] == 200


def test_parameters_reach_the_call(server: Serving) -> None:
    """Priority, and what no protocol knows, arrive where the call is run."""
    seen = []
    admit = server.gate.admit

    def noting(call: Call, again: Callable[[Call], None]) -> bool:
        seen.append((call.priority, call.parameters))
        return admit(call, again)

    server.gate.admit = noting  # type: ignore[method-assign]
    try:
        wanted = {"priority": 1, "flavour": "sweet", "binary_data_output": True}
        answer = httpx.post(f"{server.url}/v2/models/echo/infer", content=body(1, wanted))
    finally:
        server.gate.admit = admit  # type: ignore[method-assign]
    assert answer.status_code == 200
    assert seen == [(1, {"flavour": "sweet"})]
    assert np.frombuffer(answer.content[-4:], np.float32) == [0.5]


def test_pipelined_answers_keep_their_order_while_one_is_packed(
    connect: Callable[[], Wire],
) -> None:
    """The small second answer waits for the large first one, which is packed in a thread."""
    wire = connect()
    ask(wire, body(100_000), "accept-encoding: gzip")
    ask(wire, body(1))
    assert json.loads(gzip.decompress(wire.response()[2]))["outputs"][0]["shape"] == [1, 100_000]
    assert json.loads(wire.response()[2])["outputs"][0]["shape"] == [1, 1]


def test_who_leaves_while_an_answer_is_packed_troubles_nobody(
    server: Serving, connect: Callable[[], Wire]
) -> None:
    """The packed answer is dropped, and the server goes on."""
    for _ in range(5):
        wire = connect()
        ask(wire, body(100_000), "accept-encoding: gzip")
        wire.close()
    assert httpx.post(f"{server.url}/v2/models/echo/infer", content=body(1)).status_code == 200
