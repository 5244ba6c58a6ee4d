"""The traffic driver itself: what it counts as good, wrong, refused, lost and unconnected."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from modelyard.testing.traffic import Ask, Plan, Tally, Traffic, driving

Answer = Callable[[bytes], bytes]


def whole(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


def asks(*bodies: bytes) -> tuple[Ask, ...]:
    """Requests that expect to get their own body back."""
    return tuple(Ask(body, {"echo": body}) for body in bodies)


@contextlib.asynccontextmanager
async def server(answer: Answer) -> AsyncIterator[int]:
    """Answers with these bytes, and hangs up where they are none or say that it will."""

    talking: set[asyncio.Task[None] | None] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talking.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, OSError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                answered = answer(await reader.readexactly(length))
                writer.write(answered)
                if not answered or b"Connection: close" in answered:
                    break
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as listening:
        yield listening.sockets[0].getsockname()[1]
    await asyncio.gather(*filter(None, talking))


def tally_of(
    answer: Answer, until: Callable[[Tally], bool], *sent: Ask, connections: int = 2
) -> Tally:
    """What is counted of a server's answers until something is so of the counts."""

    async def run() -> Tally:
        async with asyncio.timeout(20), server(answer) as port:
            plan = Plan(f"http://127.0.0.1:{port}/", sent or asks(b"a", b"b"), connections)
            return await stopped(Traffic(plan), until)

    return asyncio.run(run())


async def stopped(traffic: Traffic, until: Callable[[Tally], bool]) -> Tally:
    running: Awaitable[None] = asyncio.ensure_future(traffic.run())
    while not until(traffic.told()):
        await asyncio.sleep(0.001)
    traffic.stop()
    await running
    return traffic.told()


def test_expected_answers_are_good() -> None:
    """Each request is counted once, by the name of what came."""
    tally = tally_of(whole, lambda tally: tally.good >= 100)
    assert tally.answered == {"echo": tally.sent}
    assert (tally.bad, tally.unconnected, tally.told_to_close) == (0, 0, 0)
    assert tally.slowest_ms >= tally.p99_ms > 0


def test_the_answer_to_somebody_else_is_wrong() -> None:
    """Two callers ask different things at every moment, so that an answer mixed up shows."""
    tally = tally_of(lambda body: whole(b"a"), lambda tally: tally.sent >= 100)
    assert tally.wrong + tally.good == tally.sent
    assert tally.wrong > 30
    assert "unexpected b'a'" in tally.notes


def test_a_refusal_is_counted_by_its_status() -> None:
    """A status that is not 200 is neither good nor lost."""
    tally = tally_of(lambda body: whole(b"no", "503 No"), lambda tally: tally.sent >= 10)
    assert tally.statuses == {"503": tally.sent}
    assert (tally.bad, tally.lost) == (tally.sent, 0)


@pytest.mark.parametrize("answered", [b"", whole(b"a", "200 OK", "Connection: close")[:-1]])
def test_a_request_without_its_answer_is_lost(answered: bytes) -> None:
    """Nothing at all, or less than was announced, and then the end of the connection."""
    tally = tally_of(lambda body: answered, lambda tally: tally.lost >= 10)
    assert tally.lost == tally.bad == tally.sent


def test_an_announced_end_loses_nothing() -> None:
    """A connection that the server said it would close is opened again."""
    tally = tally_of(
        lambda body: whole(body, "200 OK", "Connection: close"),
        lambda tally: tally.told_to_close >= 10,
    )
    assert tally.told_to_close == tally.good == tally.sent
    assert tally.bad == 0


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_nobody_there_is_no_lost_request(scheme: str) -> None:
    """Where nothing listens nothing was sent."""

    async def run() -> Tally:
        async with server(whole) as port:
            pass
        async with asyncio.timeout(20):
            plan = Plan(f"{scheme}://127.0.0.1:{port}/a/b", asks(b"a"))
            return await stopped(Traffic(plan), lambda tally: tally.unconnected >= 10)

    tally = asyncio.run(run())
    assert (tally.sent, tally.bad) == (0, 0)


def test_a_process_of_its_own_paces_and_tells() -> None:
    """Over gRPC: good answers and refusals are told apart, at the asked rate."""

    def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
        if request == b"bad":
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "no")
        return request

    handler = grpc.unary_unary_rpc_method_handler(answer)
    served = grpc.server(ThreadPoolExecutor(2))
    served.add_registered_method_handlers("test", {"Echo": handler})
    served.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("test", {"Echo": handler})]
    )
    port = served.add_insecure_port("127.0.0.1:0")
    served.start()
    plan = Plan(f"grpc://127.0.0.1:{port}/test/Echo", asks(b"good", b"bad"), 2, per_second=200)
    with driving(plan) as driven:
        driven.more(20)
        tally = driven.stop()
    served.stop(None).wait()
    assert tally.answered["echo"] >= 20
    assert tally.statuses == {"RESOURCE_EXHAUSTED": tally.sent - tally.good}
    assert (tally.lost, tally.wrong, tally.unconnected) == (0, 0, 0)
