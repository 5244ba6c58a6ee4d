import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

from modelyard.core.errors import Exhausted, Internal, NotFound, TimedOut, Unavailable
from modelyard.serving.supervision.channel import Channel, Handler

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs a test on each kind of loop: the supervisor has one, its workers the other."""
    return asyncio.run if request.param == "asyncio" else uvloop.run


async def pair(
    near: dict[str, Handler], far: dict[str, Handler], on_lost: Callable[[], None] = lambda: None
) -> tuple[Channel, Channel]:
    one, other = socket.socketpair()
    return await Channel.over(one, near, on_lost), await Channel.over(other, far)


async def echo(payload: Any) -> Any:
    return payload


def test_both_ends_ask_and_answer(run: Run) -> None:
    """Questions cross each other on the wire, and each gets its own answer."""

    async def ask() -> None:
        near, far = await pair({"echo": echo}, {"echo": echo})
        payloads = [None, 7, "ö", b"\x00" * 300_000, [1, {"a": 2.5}]]
        asked = [end.request("echo", each) for each in payloads for end in (near, far)]
        answers = await asyncio.gather(*asked)
        assert answers == [each for each in payloads for _ in (near, far)]
        near.close()
        far.close()

    run(ask())


def test_a_slow_answer_holds_nobody_up(run: Run) -> None:
    """Questions are answered as they are done, not as they came."""

    async def ask() -> None:
        may_end = asyncio.Event()

        async def slow(payload: Any) -> str:
            await may_end.wait()
            return "late"

        near, far = await pair({}, {"slow": slow, "echo": echo})
        waiting = asyncio.ensure_future(near.request("slow"))
        assert await near.request("echo", 1) == 1
        may_end.set()
        assert await waiting == "late"
        near.close()
        far.close()

    run(ask())


def test_errors_travel(run: Run) -> None:
    """One of our errors arrives as it was raised; any other as internal, without its words."""

    async def refuse(payload: Any) -> None:
        raise Exhausted("full", "no room", field="here")

    async def fail(payload: Any) -> None:
        raise ValueError("secret")

    async def ask() -> None:
        near, far = await pair({}, {"refuse": refuse, "fail": fail})
        with pytest.raises(Exhausted, match="no room") as refused:
            await near.request("refuse")
        assert (refused.value.code, refused.value.field) == ("full", "here")
        with pytest.raises(Internal) as failed:
            await near.request("fail")
        assert "secret" not in failed.value.message
        with pytest.raises(Internal, match="nobody answers 'missing'"):
            await near.request("missing")
        near.close()
        far.close()

    run(ask())


def test_who_waits_hears_that_the_other_end_has_gone(run: Run) -> None:
    """A lost end fails the questions it held, and every later one, at once."""

    async def never(payload: Any) -> None:
        await asyncio.Event().wait()

    async def ask() -> None:
        lost = asyncio.Event()
        near, far = await pair({}, {"never": never}, lost.set)
        waiting = asyncio.ensure_future(near.request("never"))
        await asyncio.sleep(0)
        far.close()
        with pytest.raises(Unavailable, match="has gone"):
            await waiting
        await lost.wait()
        with pytest.raises(Unavailable, match="has gone"):
            await near.request("never")

    run(ask())


def test_a_thread_may_ask(run: Run) -> None:
    """`ask` blocks its own thread until the answer, the error or the time limit."""

    async def refuse(payload: Any) -> None:
        raise NotFound("nothing", "nothing there")

    async def never(payload: Any) -> None:
        await asyncio.Event().wait()

    async def ask() -> None:
        near, far = await pair({}, {"echo": echo, "refuse": refuse, "never": never})
        assert await asyncio.to_thread(near.ask, "echo", 5, 10.0) == 5
        with pytest.raises(NotFound):
            await asyncio.to_thread(near.ask, "refuse", None, 10.0)
        with pytest.raises(TimedOut, match="'never' was not answered in time"):
            await asyncio.to_thread(near.ask, "never", None, 0.05)
        near.close()
        far.close()

    run(ask())
