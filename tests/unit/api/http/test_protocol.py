import gzip
import json
import zlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from modelyard.api.http.errors import STATUS
from modelyard.core.call import Outcome
from modelyard.core.errors import Kind
from modelyard.testing.serving import Serving

BODY = json.dumps(
    {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}
).encode()


def post(path: str, body: bytes, *headers: str) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: test", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def y_of(body: bytes) -> list[float]:
    data: list[float] = json.loads(body)["outputs"][0]["data"]
    return data


def test_every_kind_has_a_status() -> None:
    """The table from kinds to HTTP statuses is total."""
    assert STATUS.keys() == set(Kind)


def test_a_request_is_answered(connect: Callable[[], Any]) -> None:
    """One request in, one answer out, and the connection stays open for the next."""
    wire = connect()
    for _ in range(3):
        wire.send(post("/v2/models/vector/infer", BODY))
        status, headers, body = wire.response()
        assert (status, headers["content-type"]) == (200, "application/json")
        assert "date" in headers
        assert y_of(body) == [2, 4, 6]


def test_a_request_may_come_in_pieces(connect: Callable[[], Any]) -> None:
    """However the bytes are cut, the request is the same."""
    wire = connect()
    data = post("/v2/models/vector/infer", BODY)
    for position in range(0, len(data), 7):
        wire.send(data[position : position + 7])
    assert y_of(wire.response()[2]) == [2, 4, 6]


def test_a_chunked_body_is_read(connect: Callable[[], Any]) -> None:
    """A body without a stated length is read chunk by chunk."""
    wire = connect()
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:10], BODY[10:]))
    wire.send(
        b"POST /v2/models/vector/infer HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n"
        + chunks
        + b"0\r\n\r\n"
    )
    assert y_of(wire.response()[2]) == [2, 4, 6]


def test_pipelined_requests_are_answered_in_order(connect: Callable[[], Any]) -> None:
    """Requests sent at once, to models and to the application, are answered one after another."""
    wire = connect()
    wire.send(
        post("/v2/models/vector/infer", BODY)
        + b"GET /v2 HTTP/1.1\r\nHost: t\r\n\r\n"
        + post("/v2/models/nothing/infer", BODY)
        + b"GET /v2/health/live HTTP/1.1\r\nHost: t\r\n\r\n"
        + post("/v2/models/vector/infer", BODY)
    )
    answers = [wire.response() for _ in range(5)]
    assert [status for status, _, _ in answers] == [200, 200, 404, 200, 200]
    assert json.loads(answers[1][2])["name"] == "modelyard"
    assert json.loads(answers[3][2]) == {"live": True}
    assert y_of(answers[4][2]) == [2, 4, 6]


def test_a_caller_who_asks_to_continue_is_told_to(connect: Callable[[], Any]) -> None:
    """`Expect: 100-continue` is answered before the body comes."""
    wire = connect()
    head, body = post("/v2/models/vector/infer", BODY, "Expect: 100-continue").split(b"\r\n\r\n", 1)
    wire.send(head + b"\r\n\r\n")
    assert wire.response()[0] == 100
    wire.send(body)
    assert wire.response()[0] == 200


def test_a_caller_who_closes_is_closed(connect: Callable[[], Any]) -> None:
    """`Connection: close` and HTTP/1.0 end the connection after the answer."""
    wire = connect()
    wire.send(post("/v2/models/vector/infer", BODY, "Connection: close"))
    status, headers, _ = wire.response()
    assert (status, headers["connection"]) == (200, "close")
    with pytest.raises(EOFError):
        wire.response()


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_too_large_is_refused(connect: Callable[[], Any], *, announced: bool) -> None:
    """A body past the limit gets 413, announced or not, and the server goes on answering."""
    wire = connect()
    if announced:
        wire.send(post("/predict/vector", b"", "Content-Length: 99999999999").replace(
            b"Content-Length: 0\r\n", b""
        ))  # fmt: skip
    else:
        wire.send(b"POST /predict/vector HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        piece = b"%x\r\n%b\r\n" % (65536, b" " * 65536)
        for _ in range(17):
            wire.send(piece)
    status, headers, body = wire.response()
    assert (status, headers["connection"]) == (413, "close")
    assert json.loads(body)["code"] == "body_too_large"
    again = connect()
    again.send(post("/v2/models/vector/infer", BODY))
    assert again.response()[0] == 200


def test_a_whole_body_too_large_is_read_before_the_answer_is_closed(server: Serving) -> None:
    """An ordinary client that sends too much sees the 413, not a broken connection."""
    response = httpx.post(f"{server.url}/predict/vector", content=b" " * 5_000_000)
    assert response.status_code == 413


def test_an_endless_head_is_refused(connect: Callable[[], Any]) -> None:
    """Headers past the bound get 431 and a closed connection."""
    wire = connect()
    wire.send(b"POST /predict/vector HTTP/1.1\r\n")
    for n in range(20):
        wire.send(b"x-%d: %b\r\n" % (n, b"a" * 4000))
    status, headers, _ = wire.response()
    assert (status, headers["connection"]) == (431, "close")


def test_nonsense_gets_a_400(connect: Callable[[], Any]) -> None:
    """What is not HTTP is answered as such and closed."""
    wire = connect()
    wire.send(b"\x16\x03\x01 hello there\r\n\r\n")
    assert wire.response()[0] == 400


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "identity"])
def test_a_compressed_body_is_unpacked(server: Serving, encoding: str) -> None:
    """gzip and deflate bodies are read like plain ones."""
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[encoding]
    response = httpx.post(
        f"{server.url}/v2/models/vector/infer",
        content=pack(BODY),
        headers={"content-encoding": encoding},
    )
    assert y_of(response.content) == [2, 4, 6]


@pytest.mark.parametrize(
    ("content", "encoding", "status", "code"),
    [
        (BODY, "br", 415, "unsupported_encoding"),
        (b"not gzip", "gzip", 400, "bad_encoding"),
        (gzip.compress(BODY, mtime=0)[:-9], "gzip", 400, "bad_encoding"),
        (gzip.compress(b" " * 50_000_000), "gzip", 413, "body_too_large"),
    ],
)
def test_a_body_that_cannot_be_unpacked_is_refused(
    server: Serving, content: bytes, encoding: str, status: int, code: str
) -> None:
    """Unknown, false, broken and exploding encodings are each refused by name."""
    response = httpx.post(
        f"{server.url}/v2/models/vector/infer",
        content=content,
        headers={"content-encoding": encoding},
    )
    assert (response.status_code, response.json()["code"]) == (status, code)


def test_a_failing_model_says_nothing_of_its_inside(server: Serving) -> None:
    """An exception in a model is a 500 with a call id, and nothing of its text."""
    response = httpx.post(f"{server.url}/v2/models/broken/infer", content=BODY)
    assert response.status_code == 500
    assert response.json()["code"] == "model_failed"
    assert "secret" not in response.text


def test_busy_says_when_to_come_back(server: Serving) -> None:
    """A refusal that a retry may cure carries Retry-After."""
    response = httpx.post(f"{server.url}/v2/models/busy/infer", content=BODY)
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"


def test_a_caller_who_leaves_is_settled(server: Serving, connect: Callable[[], Any]) -> None:
    """A connection lost mid-request neither breaks the server nor leaves a call open."""
    for _ in range(20):
        wire = connect()
        wire.send(post("/v2/models/vector/infer", BODY))
        wire.close()
    with httpx.Client() as client:
        assert client.get(f"{server.url}/v2/health/live").json() == {"live": True}

    def open_calls() -> int:
        return server.gate.admitted - sum(server.gate.settled.values())

    assert server.on_loop(open_calls) == 0
    assert server.gate.settled[Outcome.OK] + server.gate.settled[Outcome.CANCELLED] >= 1


def test_paths_are_found_however_they_are_spelled(server: Serving) -> None:
    """A query or percent-encoding does not hide a model; an unknown path is a 404 of ours."""
    with httpx.Client(base_url=server.url) as client:
        assert client.post("/v2/models/vector/infer?x=1", content=BODY).status_code == 200
        assert client.post("/v2/models/v%65ctor/infer", content=BODY).status_code == 200
        assert client.post("/v2/models/vector/versions/1/infer", content=BODY).status_code == 200
        unknown = client.post("/v2/models/vector/nothing", content=BODY)
        assert (unknown.status_code, unknown.json()["kind"]) == (404, "not_found")
        wrong = client.get("/v2/models/vector/infer")
        assert wrong.status_code in (404, 405)


def test_an_unknown_version_is_named(server: Serving) -> None:
    """A version that is not deployed is a 404 that says which one is."""
    response = httpx.post(f"{server.url}/v2/models/vector/versions/9/infer", content=BODY)
    assert (response.status_code, response.json()["code"]) == (404, "unknown_version")
    assert "1 is" in response.json()["error"]
