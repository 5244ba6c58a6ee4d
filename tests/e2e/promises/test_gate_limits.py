"""Quotas and limits that overspend elsewhere: one count for every door, worker and node."""

import asyncio
import shutil
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import psycopg
import pytest

from modelyard.core.call import Outcome
from modelyard.core.records import IssuedKey
from tests.e2e.conftest import PATIENCE_S, Server
from tests.e2e.promises.keyed import MODEL, Keyed, bearer, keyed, until
from tests.e2e.promises.stage import INFER, grpc_request, http_body

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
ROWS = b'{"instances": [{"x": 1.0}]}'
DOORS = {
    "v2": (f"/v2/models/{MODEL}/infer", http_body(1.0)),
    "v2 of a version": (f"/v2/models/{MODEL}/versions/1/infer", http_body(1.0)),
    "v1": (f"/v1/models/{MODEL}:predict", ROWS),
    "v1 of a version": (f"/v1/models/{MODEL}/versions/1:predict", ROWS),
    "predict": (f"/predict/{MODEL}", b'{"x": 1.0}'),
    "invocations": ("/invocations", ROWS),
    "vertex": ("/vertex", ROWS),
}
Ask = Callable[[], Awaitable[bool]]
"""One call through one door: whether it was answered, or else refused for its limit."""


class Doors:
    """Every way in, each with a connection of its own to each of some servers."""

    def __init__(self, key: IssuedKey, *servers: Server) -> None:
        self._headers = bearer(key)
        self._clients = [
            httpx.AsyncClient(base_url=each.url, headers=self._headers, timeout=PATIENCE_S)
            for each in servers
        ]
        self._channels = [grpc.aio.insecure_channel(each.grpc_address) for each in servers]

    async def __aenter__(self) -> "Doors":
        return self

    async def __aexit__(self, *error: object) -> None:
        for client in self._clients:
            await client.aclose()
        for channel in self._channels:
            await channel.close()

    def asks(self) -> dict[str, Ask]:
        """By the door's name and the server's number."""
        found: dict[str, Ask] = {}
        for number, (client, channel) in enumerate(zip(self._clients, self._channels, strict=True)):
            for name, (path, body) in DOORS.items():
                found[f"{name} {number}"] = self._over_http(client, path, body)
            found[f"gRPC {number}"] = self._over_grpc(channel)
            found[f"gRPC stream {number}"] = self._streamed(channel)
        return found

    def _over_http(self, client: httpx.AsyncClient, path: str, body: bytes) -> Ask:
        async def ask() -> bool:
            answer = await client.post(
                path, content=body, headers={"content-type": "application/json"}
            )
            assert answer.status_code in (200, 429), (path, answer.text)
            return answer.status_code == 200

        return ask

    def _over_grpc(self, channel: grpc.aio.Channel) -> Ask:
        infer = channel.unary_unary(INFER)

        async def ask() -> bool:
            return await self._is_answered(
                infer(grpc_request(MODEL, 1.0), metadata=self._metadata, timeout=PATIENCE_S)
            )

        return ask

    def _streamed(self, channel: grpc.aio.Channel) -> Ask:
        infer = channel.stream_stream(STREAM)

        async def ask() -> bool:
            stream = infer(
                iter([grpc_request(MODEL, 1.0)]), metadata=self._metadata, timeout=PATIENCE_S
            )
            answers = [bytes(answer) async for answer in stream]
            assert len(answers) == 1
            # What goes wrong with one request of a stream is said in the stream.
            return b"sum" in answers[0] and b"quota" not in answers[0] and b"rate" not in answers[0]

        return ask

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._headers.items())

    async def _is_answered(self, call: Any) -> bool:
        try:
            await call
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
                return False
            raise
        return True


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keyed]:
    """A home whose registry is of either kind."""
    settings = {"predict_route": "/vertex"}
    if request.param == "postgresql":
        settings["database_url"] = request.getfixturevalue("postgres_url")
    with keyed(tmp_path, **settings) as home:
        yield home


def test_one_quota_counts_every_door(home: Keyed) -> None:
    """litellm#30728, #41936: guardrails that other endpoints and streams went around. Here each
    door takes its part of one quota, and when it is spent not one of them is open."""
    key = home.key()
    quota = home.limit("quota", 40)

    async def go() -> tuple[Counter[str], set[str]]:
        async with Doors(key, server) as doors:
            asks = doors.asks()
            well = [name for name, ask in asks.items() if await ask()]
            assert well == list(asks), "every door is open to begin with"
            answered = Counter(well)

            async def spend(name: str, ask: Ask) -> None:
                while await ask():
                    answered[name] += 1

            # new-api#5690, litellm#34732, #26672: all at once, as check-then-charge overspends.
            await asyncio.gather(*(spend(*each) for each in asks.items() for _ in range(6)))
            return answered, {name for name, ask in asks.items() if await ask()}

    with home.serving(workers=2) as server:
        answered, still_open = asyncio.run(go())
        assert answered.total() == 40
        assert still_open == set()
        until(lambda: home.standing(quota).spent == 40)
        until(lambda: home.outcomes(key)[Outcome.OK] == 40)
    home.assert_all_copied()


@pytest.mark.parametrize("kind", ["rate", "concurrency"])
def test_other_limits_hold_at_every_door(tmp_path: Path, kind: str) -> None:
    """What one door has used up is gone for every other one."""
    with keyed(tmp_path, predict_route="/vertex") as home:
        key = home.key()
        if kind == "rate":
            home.limit("rate", 1, burst=1)
        else:
            home.limit("concurrency", 0)

        async def go() -> list[bool]:
            async with Doors(key, server) as doors:
                return [await ask() for ask in doors.asks().values()]

        with home.serving(workers=2) as server:
            answered = asyncio.run(go())
    assert answered == [kind == "rate", *[False] * (len(DOORS) + 1)]


def know_each_other(url: str) -> bool:
    """Whether both nodes have counted the nodes since the second one came."""
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        row = connection.execute(
            "SELECT count(*) = 2 AND min(heard) > max(started) FROM nodes"
        ).fetchone()
    return bool(row and row[0])


def test_limits_are_not_multiplied_by_nodes(tmp_path: Path, postgres_url: str) -> None:
    """litellm#40291. Two nodes with two workers each and one PostgreSQL share out one rate and one
    quota, asked through every door of both."""
    other = tmp_path / "other"
    with keyed(tmp_path, database_url=postgres_url, predict_route="/vertex") as home:
        shutil.copytree(home.home, other, ignore=shutil.ignore_patterns("*.key"))
        key = home.key()
        home.limit("rate", 600, burst=60)
        quota = home.limit("quota", 200, per=["key"])
        answered: Counter[str] = Counter()

        async def spend(name: str, ask: Ask, until_s: float) -> None:
            while time.monotonic() < until_s:
                answered[name] += await ask()
                await asyncio.sleep(0.01)

        async def go(for_s: float) -> None:
            until_s = time.monotonic() + for_s
            async with Doors(key, one, two) as doors:
                await asyncio.gather(
                    *(spend(name, ask, until_s) for name, ask in doors.asks().items())
                )

        with home.serving() as one, home.serving(home=other) as two:
            # A node hears of another one with its next beat, some seconds later at most.
            until(lambda: know_each_other(postgres_url))
            began_s = time.monotonic()
            asyncio.run(go(4.0))
            took_s = time.monotonic() - began_s
            # A burst, and what the rate gives meanwhile; each node has half of both.
            assert 50 <= answered.total() <= 60 + 10 * took_s + 2, answered
            assert {name[-1] for name, times in answered.items() if times} == {"0", "1"}
            until(lambda: home.standing(quota).spent == answered.total())
