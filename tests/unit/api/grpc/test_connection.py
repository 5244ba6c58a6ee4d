"""Frames that no ordinary client sends: refused or bounded, and the server goes on answering."""

import asyncio
import gzip
import zlib
from collections.abc import Awaitable, Callable
from typing import Any

import ngh2
import numpy as np
import pytest

from modelyard.api.grpc import connection as connection_module
from modelyard.api.grpc import messages
from modelyard.api.grpc.framing import framed
from modelyard.api.grpc.messages import ModelInferRequest, ModelInferResponse
from modelyard.core.call import Outcome
from modelyard.core.tensors import to_raw
from tests.unit.api.grpc.conftest import MAX_MESSAGE_BYTES, Running

Headers = tuple[tuple[bytes, bytes], ...]
INFER = f"/{messages.SERVICE}/ModelInfer".encode()
STREAM = f"/{messages.SERVICE}/ModelStreamInfer".encode()
LIVE = f"/{messages.SERVICE}/ServerLive".encode()
PATIENCE_S = 20


def _head(path: bytes = INFER, **other: bytes) -> Headers:
    fields = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": path,
        b":authority": b"here",
        b"content-type": b"application/grpc",
        b"te": b"trailers",
    }
    return tuple((fields | {name.encode(): value for name, value in other.items()}).items())


def _message(count: int = 1) -> bytes:
    array = np.arange(count, dtype=np.float32)
    request = ModelInferRequest(model_name="echo_FP32_1", raw_input_contents=[to_raw(array)])
    request.inputs.add(name="x", datatype="FP32", shape=array.shape)
    return request.SerializeToString()


class Wire:
    """A client that says what it likes, and hears everything."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.http = ngh2.Connection(ngh2.Role.CLIENT)
        self.reader, self.writer = reader, writer
        self.fields: dict[int, dict[bytes, bytes]] = {}
        self.body: dict[int, bytes] = {}
        self.closed: set[int] = set()
        self.is_lost = False

    def begin(self, head: Headers | None = None, data: bytes = b"", *, end: bool = True) -> int:
        stream_id = self.http.send_request(head or _head())
        if data or end:
            self.http.send_data(stream_id, data, end_stream=end)
        return stream_id

    async def flush(self) -> None:
        self.writer.write(self.http.data_to_send())
        await self.writer.drain()

    async def hear(self) -> None:
        """Send what is to be sent, and take what the server says next."""
        await self.flush()
        data = await asyncio.wait_for(self.reader.read(1 << 16), PATIENCE_S)
        if not data:
            self.is_lost = True
            return
        self.http.receive_data(data)
        for event in self.http.events():
            if isinstance(event, ngh2.ResponseReceived | ngh2.TrailersReceived):
                self.fields.setdefault(event.stream_id, {}).update(dict(event.headers))
            elif isinstance(event, ngh2.DataReceived):
                self.body[event.stream_id] = self.body.get(event.stream_id, b"") + event.data
            elif isinstance(event, ngh2.StreamClosed):
                self.closed.add(event.stream_id)
            elif isinstance(event, ngh2.GoAwayReceived | ngh2.ConnectionClosed):
                self.is_lost = True

    async def answer(self, stream_id: int) -> dict[bytes, bytes]:
        """The header fields and trailers of one stream, when it has ended."""
        while b"grpc-status" not in self.fields.get(stream_id, {}) and not (
            stream_id in self.closed or self.is_lost
        ):
            await self.hear()
        return self.fields.get(stream_id, {})

    async def ask(self, head: Headers | None = None, data: bytes = b"") -> dict[bytes, bytes]:
        return await self.answer(self.begin(head, data))


def _on_the_wire(running: Running, scene: Callable[[Wire], Awaitable[Any]]) -> Any:
    async def go() -> Any:
        host, port = running.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        wire = Wire(reader, writer)
        wire.http.initiate_connection()
        try:
            return await scene(wire)
        finally:
            writer.close()

    return asyncio.run(go())


def _asked(running: Running, head: Headers | None, data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = _on_the_wire(running, lambda wire: wire.ask(head, data))
    return found


def _is_alive(running: Running) -> bool:
    return _asked(running, None, framed(_message())).get(b"grpc-status") == b"0"


PLAIN = framed(_message())
PACKED = gzip.compress(_message())
REFUSED: dict[str, tuple[Headers, bytes, bytes, bytes]] = {
    "no message": (_head(), b"", b"3", b"none was sent"),
    "two messages": (_head(), PLAIN * 2, b"3", b"more were sent"),
    "a message cut short": (_head(), PLAIN[:-1], b"3", b"inside a message"),
    "a prefix cut short": (_head(), PLAIN[:3], b"3", b"inside a message"),
    "an endless message": (_head(), b"\0\xff\xff\xff\xff", b"8", b"send less"),
    "an unknown packing": (_head(**{"grpc-encoding": b"br"}), PLAIN, b"12", b"not read here"),
    "a packed message of no packing": (_head(), b"\1" + PLAIN[1:], b"3", b"says not how"),
    "a packed message that is damaged": (
        _head(**{"grpc-encoding": b"gzip"}),
        b"\1" + PLAIN[1:],
        b"3",
        b"damaged",
    ),
    "a packed message cut short": (
        _head(**{"grpc-encoding": b"gzip"}),
        b"\1" + framed(PACKED[:-9])[1:],
        b"3",
        b"cut short",
    ),
    "a packed message with another behind it": (
        _head(**{"grpc-encoding": b"gzip"}),
        b"\1" + framed(PACKED * 2)[1:],
        b"3",
        b"goes on",
    ),
    "a bomb": (
        _head(**{"grpc-encoding": b"gzip"}),
        b"\1" + framed(gzip.compress(bytes(MAX_MESSAGE_BYTES * 8)))[1:],
        b"8",
        b"send less",
    ),
    "a timeout that is none": (_head(**{"grpc-timeout": b"soon"}), PLAIN, b"3", b"grpc-timeout"),
    "a timeout too long": (
        _head(**{"grpc-timeout": b"123456789S"}),
        PLAIN,
        b"3",
        b"grpc-timeout",
    ),
    "a method that is not here": (_head(b"/a.B/C"), PLAIN, b"12", b"is served here"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_request_that_breaks_the_protocol_is_refused(running: Running, case: str) -> None:
    """Each with its status and words, and the connection stays good for the next."""
    head, data, status, words = REFUSED[case]

    async def scene(wire: Wire) -> tuple[dict[bytes, bytes], dict[bytes, bytes]]:
        return await wire.ask(head, data), await wire.ask(None, PLAIN)

    said, after = _on_the_wire(running, scene)
    assert said[b"grpc-status"] == status
    assert words in said[b"grpc-message"]
    assert after[b"grpc-status"] == b"0"


@pytest.mark.parametrize(
    ("change", "status"),
    [({":method": b"GET"}, b"405"), ({"content-type": b"text/plain"}, b"415")],
)
def test_what_is_not_grpc_is_told_so(
    running: Running, change: dict[str, bytes], status: bytes
) -> None:
    """Another method or content type is HTTP's own refusal."""
    assert _asked(running, _head(**change), b"")[b":status"] == status


@pytest.mark.parametrize("packing", ["gzip", "deflate", "identity"])
def test_packed_messages_are_read(running: Running, packing: str) -> None:
    """gzip and deflate, and a message that is not packed although it might be."""
    pack = {"gzip": gzip.compress, "deflate": zlib.compress, "identity": bytes}[packing]
    data = framed(pack(_message()))  # type: ignore[operator]
    if packing != "identity":
        data = b"\1" + data[1:]
    said = _asked(running, _head(**{"grpc-encoding": packing.encode()}), data)
    assert said[b"grpc-status"] == b"0"
    assert said[b"grpc-accept-encoding"] == b"identity,gzip,deflate"


@pytest.mark.parametrize("size", [1, 7, 5000])
def test_a_message_may_come_in_pieces(running: Running, size: int) -> None:
    """However the bytes are cut, they are the same message; the end may come by itself."""
    data = framed(_message(size * 20))

    async def scene(wire: Wire) -> ModelInferResponse:
        stream_id = wire.begin(end=False)
        for start in range(0, len(data), size):
            wire.http.send_data(stream_id, data[start : start + size])
            await wire.flush()
        wire.http.send_trailers(stream_id, ((b"x-last", b"1"),))
        assert (await wire.answer(stream_id))[b"grpc-status"] == b"0"
        return ModelInferResponse.FromString(wire.body[stream_id][5:])

    response = _on_the_wire(running, scene)
    assert response.raw_output_contents[0] == to_raw(np.arange(size * 20, dtype=np.float32))


def test_bytes_that_are_not_http2_end_the_connection(running: Running) -> None:
    """Garbage, or another protocol, closes its own connection and no other."""

    async def scene(data: bytes) -> bytes:
        host, port = running.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(data)
        found = await asyncio.wait_for(reader.read(), PATIENCE_S)
        writer.close()
        return found

    for data in (b"GET / HTTP/1.1\r\nhost: here\r\n\r\n", bytes(range(256)) * 40):
        asyncio.run(scene(data))
    assert _is_alive(running)


def test_a_silent_connection_is_closed(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects and never says a word does not hold a place for ever."""
    monkeypatch.setattr(connection_module, "_HANDSHAKE_S", 0.05)

    async def scene() -> bytes:
        host, port = running.address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            return await asyncio.wait_for(reader.read(), PATIENCE_S)
        except ConnectionResetError:
            return b""
        finally:
            writer.close()

    asyncio.run(scene())
    assert _is_alive(running)


def test_header_floods_end_the_connection(running: Running) -> None:
    """More header bytes than a caller needs are not kept."""
    many = tuple((f"x-{n}".encode(), b"y" * 100) for n in range(200))

    async def scene(wire: Wire) -> bool:
        wire.begin((*_head(), *many), PLAIN)
        while not wire.is_lost:
            await wire.hear()
        return wire.is_lost

    assert _on_the_wire(running, scene)
    assert _is_alive(running)


def test_rapid_resets_end_the_connection(running: Running) -> None:
    """Streams opened and cancelled by the ten thousand are an attack, and bounded as one."""

    async def scene(wire: Wire) -> bool:
        # The server's own burst is 10,000, and its streams at once 1,024.
        for _ in range(400):
            try:
                streams = [wire.begin(end=False) for _ in range(50)]
                await wire.flush()
                for stream_id in streams:
                    wire.http.reset_stream(stream_id)
                await wire.ask(None, PLAIN)
            except (ConnectionError, ngh2.NGH2Error):
                return True
            if wire.is_lost:
                return True
        return False

    assert _on_the_wire(running, scene)
    assert _is_alive(running)


def test_half_sent_messages_are_bounded(running: Running) -> None:
    """A connection may have a few large messages under way, not hundreds."""
    half = framed(bytes(MAX_MESSAGE_BYTES))[: MAX_MESSAGE_BYTES // 2]

    async def scene(wire: Wire) -> list[bytes]:
        streams = [wire.begin(data=half, end=False) for _ in range(12)]
        while len(wire.fields) < 12 - 8:
            await wire.hear()
        return [wire.fields[each][b"grpc-status"] for each in streams if each in wire.fields]

    assert _on_the_wire(running, scene) == [b"8"] * 4
    assert _is_alive(running)


def test_whole_messages_that_never_end_are_bounded(running: Running) -> None:
    """A call whose stream stays open after its message counts as half sent."""
    whole = framed(bytes(MAX_MESSAGE_BYTES - 100))

    async def scene(wire: Wire) -> list[bytes]:
        for count in range(1, 7):
            wire.begin(data=whole, end=False)
            await wire.flush()
            while wire.http.queued_body_size() or len(wire.fields) < count - 4:
                await wire.hear()
                await wire.flush()
        return [fields[b"grpc-status"] for fields in wire.fields.values()]

    assert _on_the_wire(running, scene) == [b"8"] * 2
    assert _is_alive(running)


RESET: dict[str, tuple[Headers, bytes]] = {
    "a call": (_head(), PLAIN),
    "no request": (_head(), framed(b"nonsense")),
    "a bad timeout": (_head(**{"grpc-timeout": b"soon"}), PLAIN),
    "an unknown packing": (_head(**{"grpc-encoding": b"br"}), PLAIN),
    "an unknown method": (_head(b"/a.B/C"), PLAIN),
    "a method that is answered at once": (_head(LIVE), framed(b"")),
    "a stream of a wrong message": (_head(STREAM), framed(b"nonsense")),
    "another verb": (_head(**{":method": b"GET"}), PLAIN),
    "another content": (_head(**{"content-type": b"text/plain"}), PLAIN),
}


@pytest.mark.parametrize("case", RESET)
def test_a_call_that_is_reset_at_once_harms_no_other(running: Running, case: str) -> None:
    """Opened and reset in one packet; the call beside it on the connection gets its answer."""
    head, data = RESET[case]

    async def scene(wire: Wire) -> dict[bytes, bytes]:
        other = wire.begin(data=PLAIN[:-1], end=False)
        await wire.hear()
        reset = wire.begin(head, data)
        packet = wire.http.data_to_send()
        wire.http.reset_stream(reset)
        wire.http.send_data(other, PLAIN[-1:], end_stream=True)
        wire.writer.write(packet + wire.http.data_to_send())
        return await wire.answer(other)

    assert _on_the_wire(running, scene).get(b"grpc-status") == b"0"


def test_a_refused_upload_does_not_block_its_connection(running: Running) -> None:
    """Who goes on sending after a refusal is not read, and other calls are answered."""
    piece = bytes(1 << 20)

    async def scene(wire: Wire) -> tuple[bytes, bytes]:
        stream_id = wire.begin(_head(**{"grpc-timeout": b"soon"}), end=False)
        refused = (await wire.answer(stream_id))[b"grpc-status"]
        for _ in range(40):
            if stream_id not in wire.closed:
                wire.http.send_data(stream_id, piece)
            await wire.flush()
            answered = (await wire.ask(None, PLAIN))[b"grpc-status"]
        return refused, answered

    assert _on_the_wire(running, scene) == (b"3", b"0")


def test_a_connection_that_breaks_off_leaves_nothing(running: Running) -> None:
    """A caller that vanishes inside a message takes its RPC with it."""

    async def scene(wire: Wire) -> None:
        for _ in range(20):
            wire.begin(data=PLAIN[:-1], end=False)
        await wire.hear()

    for _ in range(5):
        _on_the_wire(running, scene)
    assert _is_alive(running)


@pytest.mark.parametrize(
    ("leave", "wanted"),
    [
        (lambda wire, stream_id: wire.writer.transport.abort(), Outcome.CLIENT_GONE),
        (lambda wire, stream_id: wire.http.reset_stream(stream_id), Outcome.CANCELLED),
    ],
    ids=["lost", "reset"],
)
def test_a_caller_that_is_lost_and_one_that_cancels_are_told_apart(
    running: Running, leave: Callable[[Wire, int], object], wanted: Outcome
) -> None:
    """The call ends, and says which of the two it was."""
    request = ModelInferRequest(model_name="held", raw_input_contents=[bytes(4)])
    request.inputs.add(name="x", datatype="FP32", shape=[1])

    async def scene(wire: Wire) -> None:
        stream_id = wire.begin(None, framed(request.SerializeToString()))
        await wire.flush()
        await asyncio.to_thread(running.exchange.arrived.acquire)
        leave(wire, stream_id)
        if not wire.writer.transport.is_closing():
            await wire.flush()

    _on_the_wire(running, scene)
    call = running.exchange.held["held"].pop()

    async def ended() -> Outcome:
        while call.outcome is None:
            await asyncio.sleep(0)
        return call.outcome

    assert running.run(ended()) is wanted
