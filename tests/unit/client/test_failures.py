"""Servers that refuse, stall, break off or are not there."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from modelyard.core.errors import ModelyardError, TimedOut, Unavailable

METADATA = (
    b'{"name":"m","versions":["1"],"inputs":[{"name":"x","datatype":"FP32","shape":[-1]}],'
    b'"outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]}'
)
ANSWER = (
    b'{"model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1],"data":[5.0]}]}'
)
X = {"x": np.ones(1, np.float32)}
Handler = BaseHTTPRequestHandler
Act = Callable[[Handler], None]


def say(status: int, body: bytes, **headers: str) -> Act:
    def act(handler: Handler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("content-length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return act


def hang_up(handler: Handler) -> None:
    handler.close_connection = True
    handler.connection.close()


def _wait(released: threading.Event) -> None:
    released.wait(20)


def refuse(code: str) -> bytes:
    return b'{"error":"later","kind":"unavailable","code":"%s"}' % code.encode()


@dataclass
class Script:
    """A server that does one thing after the other, the last one for ever."""

    acts: dict[str, list[Act]] = field(default_factory=dict)
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""

    def act(self, handler: Handler) -> None:
        handler.rfile.read(int(handler.headers.get("content-length", 0)))
        self.seen.append((handler.command, handler.headers.get("authorization")))
        acts = self.acts[handler.command]
        (acts.pop(0) if len(acts) > 1 else acts[0])(handler)

    @property
    def posts(self) -> int:
        return sum(method == "POST" for method, _ in self.seen)


@contextlib.contextmanager
def _playing() -> Iterator[Script]:
    script = Script({"GET": [say(200, METADATA)], "POST": [say(200, ANSWER)]})

    class Played(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            script.act(self)

        def do_POST(self) -> None:
            script.act(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Played)
    server.daemon_threads = True
    script.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield script
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def script() -> Iterator[Script]:
    with _playing() as script:
        yield script


def test_a_refusal_with_retry_after_is_tried_again(connect: Any, script: Script) -> None:
    """503 with Retry-After was refused before it ran, so it may come again when it says."""
    script.acts["POST"] = [say(503, refuse("draining"), retry_after="0"), say(200, ANSWER)]
    assert connect(script.url).infer("m", X)["y"].tolist() == [5.0]
    assert script.posts == 2


def test_trying_again_has_an_end(connect: Any, script: Script) -> None:
    """After three refusals the error is the caller's to see."""
    script.acts["POST"] = [say(503, refuse("queue_full"), retry_after="0")]
    with pytest.raises(Unavailable) as refused:
        connect(script.url).infer("m", X)
    assert refused.value.code == "queue_full"
    assert script.posts == 3


@pytest.mark.parametrize(
    "act",
    [
        say(503, refuse("loading")),
        say(503, refuse("loading"), retry_after="3600"),
        say(503, refuse("loading"), retry_after="Wed, 21 Oct 2026 07:28:00 GMT"),
        say(500, b'{"error":"no","kind":"internal","code":"internal"}'),
        say(429, b'{"error":"no","kind":"exhausted","code":"rate"}', retry_after="0"),
    ],
)
def test_other_refusals_are_raised_at_once(connect: Any, script: Script, act: Act) -> None:
    """Without a near Retry-After, or with another status, nothing is sent again."""
    script.acts["POST"] = [act]
    with pytest.raises(ModelyardError):
        connect(script.url).infer("m", X)
    assert script.posts == 1


def test_a_call_that_may_have_run_is_not_sent_again(connect: Any, script: Script) -> None:
    """A connection that breaks after the request went out is an error that says so."""
    script.acts["POST"] = [hang_up]
    with pytest.raises(Unavailable, match="may have been run") as refused:
        connect(script.url).infer("m", X)
    assert refused.value.code == "connection_lost"
    assert script.posts == 1


def test_a_question_is_asked_again(connect: Any, script: Script) -> None:
    """Reading twice is harmless, so a broken GET is repeated."""
    script.acts["GET"] = [hang_up, say(200, METADATA)]
    assert connect(script.url).metadata("m")["name"] == "m"
    assert len(script.seen) == 2


def test_nothing_there_is_unavailable(connect: Any) -> None:
    """A port where nobody listens: what to do is in the message, soon."""
    with _playing() as gone:
        url = gone.url
    client = connect(url)
    before = time.monotonic()
    with pytest.raises(Unavailable, match="modelyard serve") as refused:
        client.predict("m", [1.0])
    assert refused.value.code == "cannot_connect"
    assert time.monotonic() - before < 5
    assert not client.is_live()
    assert not client.is_ready()


def test_no_answer_in_time_is_a_timeout(connect: Any, script: Script) -> None:
    """A server that accepts and says nothing costs `timeout_s`, once."""
    released = threading.Event()
    script.acts["POST"] = [lambda _: _wait(released)]
    client = connect(script.url, timeout_s=0.3)
    try:
        with pytest.raises(TimedOut, match=r"within 0\.3 s"):
            client.infer("m", X)
    finally:
        released.set()
    assert script.posts == 1


def test_the_key_goes_with_every_request(connect: Any, script: Script) -> None:
    """An API key is sent as a bearer token."""
    connect(script.url, key="secret").infer("m", X)
    assert {authorization for _, authorization in script.seen} == {"Bearer secret"}
