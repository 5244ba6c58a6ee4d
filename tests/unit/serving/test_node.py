import asyncio
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

from modelyard.core.call import Call
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import NotFound, Unavailable
from modelyard.core.route import Options, Route, Target
from modelyard.core.signature import Signature, TensorSpec
from modelyard.gateway.open_gate import OpenGate
from modelyard.serving.cost import BatchCost
from modelyard.serving.endpoint import Endpoint, Identity
from modelyard.serving.exchange import LocalExchange
from modelyard.serving.node import Node
from modelyard.serving.scheduler import Scheduler
from modelyard.serving.statistics import Statistics
from modelyard.testing.serving import LIMITS, FunctionRuntime, endpoint_of

SIGNATURE = Signature(
    (TensorSpec("x", Datatype.FP32, (-1,)),), (TensorSpec("y", Datatype.FP32, (-1,)),)
)


def to(model: str, *versions: int, canary: float = 10.0, **more: Any) -> Route:
    """A route to a version, and perhaps to a canary beside it."""
    route = Route(model=model, generation=0, targets=(Target(versions[0]),), **more)
    return route.with_canary(versions[1], canary) if versions[1:] else route


class Registry:
    """Routes in memory, which can be changed and can be down."""

    def __init__(self, *routes: Route) -> None:
        self.current = list(routes)
        self.changes = 0
        self.is_down = False
        self.was_asked = threading.Event()

    def generation(self) -> int:
        self.was_asked.set()
        if self.is_down:
            raise ConnectionError("down")
        return self.changes

    def routes(self) -> list[Route]:
        return self.current

    def change(self, *routes: Route) -> None:
        self.current = list(routes)
        self.changes += 1


class Ailing(Scheduler):
    """A backend whose process may be dead."""

    version: int
    troubles: dict[int, str]

    @property
    def trouble(self) -> str | None:
        return self.troubles.get(self.version)


def opener(broken: set[tuple[str, int]]) -> Callable[[str, int, Options], Endpoint]:
    def open_endpoint(model: str, version: int, options: Options) -> Endpoint:
        if (model, version) in broken:
            raise Unavailable("damaged", f"{model}:{version} is damaged")
        runtime = FunctionRuntime(SIGNATURE, lambda inputs: {"y": inputs["x"] + version})
        return endpoint_of(runtime, model=model, version=version)

    return open_endpoint


def follow(
    registry: Registry,
    script: Callable[[LocalExchange], Awaitable[None]],
    broken: set[tuple[str, int]] | None = None,
) -> None:
    async def go() -> None:
        exchange = LocalExchange()
        node = Node(registry, opener(broken or set()), exchange, poll_s=0.01)
        assert not exchange.is_ready()
        await node.start()
        try:
            await asyncio.wait_for(script(exchange), 20)
        finally:
            await node.stop()

    asyncio.run(go())


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.005)


def test_a_node_starts_with_what_is_routed() -> None:
    """When a node has started, every routed model answers."""

    async def script(exchange: LocalExchange) -> None:
        assert exchange.serving() == {"a": 1, "b": 2}
        assert exchange.is_ready()

    follow(Registry(to("a", 1), to("b", 2)), script)


def test_a_changed_route_is_followed() -> None:
    """Deploy, swap and removal take effect without a restart."""
    registry = Registry(to("a", 1))

    async def script(exchange: LocalExchange) -> None:
        registry.change(to("a", 2), to("b", 1))
        await until(lambda: exchange.serving() == {"a": 2, "b": 1})
        registry.change(to("b", 1))
        await until(lambda: exchange.serving() == {"b": 1})
        with pytest.raises(NotFound):
            exchange.find("a")

    follow(registry, script)


def test_a_broken_version_never_displaces_a_working_one() -> None:
    """A version that cannot be loaded is reported, and the one before it goes on answering."""
    registry, broken = Registry(to("a", 1)), {("a", 2)}

    async def script(exchange: LocalExchange) -> None:
        registry.change(to("a", 2))
        await until(lambda: any(not line.ready for line in exchange.listings()))
        assert exchange.serving() == {"a": 1}
        assert exchange.is_ready()
        [failed] = [line for line in exchange.listings() if not line.ready]
        assert (failed.version, failed.reason) == (2, "a:2 is damaged")
        registry.change(to("a", 1))
        await until(lambda: all(line.ready for line in exchange.listings()))

    follow(registry, script, broken)


def test_a_model_that_cannot_be_served_at_all_is_not_ready() -> None:
    """Health says no while a routed model has nothing to answer with, and the call says why."""

    async def script(exchange: LocalExchange) -> None:
        assert not exchange.is_ready()
        with pytest.raises(Unavailable, match="a:1 is damaged"):
            exchange.find("a")

    follow(Registry(to("a", 1)), script, {("a", 1)})


def test_a_version_that_failed_is_tried_again() -> None:
    """What was broken and is mended gets served without a change of the route."""
    broken = {("a", 1)}

    async def script(exchange: LocalExchange) -> None:
        broken.clear()
        await until(lambda: exchange.serving() == {"a": 1})
        assert exchange.is_ready()

    follow(Registry(to("a", 1)), script, broken)


def test_serving_goes_on_while_the_registry_is_down() -> None:
    """A registry that cannot be reached changes nothing; when it is back, it is followed again."""
    registry = Registry(to("a", 1))

    async def script(exchange: LocalExchange) -> None:
        registry.is_down = True
        registry.was_asked.clear()
        await asyncio.to_thread(registry.was_asked.wait, 10)
        assert exchange.serving() == {"a": 1}
        registry.change(to("a", 2))
        registry.is_down = False
        await until(lambda: exchange.serving() == {"a": 2})

    follow(registry, script)


def test_a_swap_loses_no_call() -> None:
    """Calls submitted before, during and after a hundred swaps are all answered, by one version."""

    async def go() -> None:
        exchange = LocalExchange()
        answers: list[Call] = []
        asked = 0
        for version in range(1, 101):
            runtime = FunctionRuntime(
                SIGNATURE, lambda inputs, version=version: {"y": inputs["x"] + version}
            )
            cost_us = 10.0 if version % 2 else 1e6
            exchange.install(endpoint_of(runtime, version=version, cost_us=cost_us))
            for n in range(5):
                served = exchange.find("model")
                inputs = {"x": np.array([n], np.float32)}
                exchange.submit(Call(served, inputs, 1, answers.append))
                asked += 1
            if version % 3 == 0:
                await asyncio.sleep(0)
        await asyncio.wait_for(until(lambda: len(answers) == asked), 20)
        assert all(call.error is None for call in answers)
        for call in answers:
            assert call.outputs is not None
            assert call.outputs["y"][0] == call.inputs["x"][0] + call.served.version
        await asyncio.wait_for(until(lambda: exchange.closing == 0), 20)

    asyncio.run(go())


def test_a_load_that_panics_is_reported() -> None:
    """Code that raises no Exception while a version is loaded does not end the following."""
    registry = Registry(to("a", 1))

    def open_endpoint(model: str, version: int, options: Options) -> Endpoint:
        if version == 1:
            raise SystemExit("the model's own code gave up")
        return opener(set())(model, version, options)

    async def go() -> None:
        exchange = LocalExchange()
        node = Node(registry, open_endpoint, exchange, poll_s=0.01)
        await asyncio.wait_for(node.start(), 20)
        with pytest.raises(Unavailable, match="gave up"):
            exchange.find("a")
        registry.change(to("a", 2))
        await asyncio.wait_for(until(lambda: exchange.serving() == {"a": 2}), 20)
        await node.stop()

    asyncio.run(go())


def test_a_runtime_that_cannot_be_closed_does_not_end_the_following() -> None:
    """A swap whose old version fails to close is a swap all the same, and so is the next."""
    registry = Registry(to("a", 1))

    def open_endpoint(model: str, version: int, options: Options) -> Endpoint:
        runtime = FunctionRuntime(SIGNATURE, lambda inputs: {"y": inputs["x"]})

        def close() -> None:
            raise RuntimeError("the device is busy")

        runtime.close = close  # type: ignore[method-assign]
        return endpoint_of(runtime, model=model, version=version)

    async def go() -> None:
        exchange = LocalExchange()
        node = Node(registry, open_endpoint, exchange, poll_s=0.01)
        await node.start()
        for version in (2, 3):
            registry.change(to("a", version))
            await asyncio.wait_for(until(lambda: exchange.serving() == {"a": version}), 20)  # noqa: B023
        await node.stop()

    asyncio.run(go())


def test_a_load_that_hangs_does_not_keep_a_node_from_stopping() -> None:
    """A stopping node waits as long as it is told to, and what loads too late is closed."""
    entered, go_on = threading.Event(), threading.Event()
    runtime = FunctionRuntime(SIGNATURE, lambda inputs: {"y": inputs["x"]})

    def hang(model: str, version: int, options: Options) -> Endpoint:
        entered.set()
        assert go_on.wait(20)
        return endpoint_of(runtime, model=model, version=version)

    async def go() -> None:
        exchange = LocalExchange()
        node = Node(Registry(to("a", 1)), hang, exchange, poll_s=0.01)
        starting = asyncio.create_task(node.start())
        assert await asyncio.to_thread(entered.wait, 20)
        await asyncio.wait_for(node.stop(0.01), 20)
        starting.cancel()
        go_on.set()
        await asyncio.wait_for(until(lambda: runtime.is_closed), 20)
        assert exchange.serving() == {}

    asyncio.run(go())


def test_a_canary_takes_its_share_and_a_shadow_none() -> None:
    """Of a route with two versions both are loaded, and each gets its part of the calls."""
    registry = Registry(to("a", 1, 2, canary=25.0))

    async def script(exchange: LocalExchange) -> None:
        chosen = [exchange.find("a").version for _ in range(200)]
        assert 45 <= chosen.count(2) <= 55
        assert [exchange.find("a", version).version for version in ("1", "2")] == [1, 2]
        with pytest.raises(NotFound, match="1, 2 are"):
            exchange.find("a", "3")
        registry.change(to("a", 1).with_shadow(2, 100.0))
        await until(lambda: {exchange.find("a").version for _ in range(50)} == {1})
        assert exchange.find("a", "2").version == 2
        registry.change(to("a", 2))
        await until(lambda: exchange.serving() == {"a": 2})
        assert [(line.version, line.ready) for line in exchange.listings()] == [(2, True)]

    follow(registry, script)


def test_a_canary_that_fails_leaves_all_calls_to_the_stable_version() -> None:
    """Its share goes back, the reason is listed, the node stays ready, and it is tried again."""
    broken = {("a", 2)}
    registry = Registry(to("a", 1))

    async def script(exchange: LocalExchange) -> None:
        registry.change(to("a", 1, 2, canary=50.0))
        await until(lambda: any(line.reason == "a:2 is damaged" for line in exchange.listings()))
        assert {exchange.find("a").version for _ in range(50)} == {1}
        assert exchange.is_ready()
        [route] = exchange.report()
        assert [(each.asked, each.given, each.ready) for each in route.targets] == [
            (50.0, 100.0, True),
            (50.0, 0.0, False),
        ]
        assert route.targets[1].reason == "a:2 is damaged"
        with pytest.raises(Unavailable, match="a:2 is damaged"):
            exchange.find("a", "2")
        broken.clear()
        await until(lambda: {exchange.find("a").version for _ in range(50)} == {1, 2})

    follow(registry, script, broken)


def test_a_stable_version_that_fails_displaces_nothing() -> None:
    """Until the new stable version is there, what answered goes on, canary or not."""
    broken = {("a", 2)}
    registry = Registry(to("a", 1))

    async def script(exchange: LocalExchange) -> None:
        registry.change(to("a", 2, 3, canary=10.0))
        await until(lambda: any(line.version == 3 and line.ready for line in exchange.listings()))
        await until(lambda: any(line.reason == "a:2 is damaged" for line in exchange.listings()))
        assert {exchange.find("a").version for _ in range(50)} == {1}
        registry.change(to("a", 3))
        await until(lambda: exchange.serving() == {"a": 3})

    follow(registry, script, broken)


def test_a_load_that_hangs_delays_no_other_route() -> None:
    """While one version hangs, other models and other versions of it are deployed and removed."""
    go_on = threading.Event()
    registry = Registry(to("a", 1), to("b", 1))
    late: list[FunctionRuntime] = []

    def open_endpoint(model: str, version: int, options: Options) -> Endpoint:
        if (model, version) == ("a", 2):
            assert go_on.wait(20)
            late.append(FunctionRuntime(SIGNATURE, lambda inputs: {"y": inputs["x"]}))
            return endpoint_of(late[0], model=model, version=version)
        return opener(set())(model, version, options)

    async def go() -> None:
        exchange = LocalExchange()
        node = Node(registry, open_endpoint, exchange, poll_s=0.01)
        await node.start()
        registry.change(to("a", 2), to("b", 2), to("c", 1))
        await until(lambda: exchange.serving() == {"a": 1, "b": 2, "c": 1})
        registry.change(to("a", 3), to("c", 1))
        await until(lambda: exchange.serving() == {"a": 3, "c": 1})
        go_on.set()
        await until(lambda: bool(late) and late[0].is_closed)
        assert exchange.serving() == {"a": 3, "c": 1}
        await node.stop()

    asyncio.run(asyncio.wait_for(go(), 20))


def test_loads_run_side_by_side_but_few_at_a_time() -> None:
    """Four versions load at once, and no more."""
    together, most, lock = 0, 0, threading.Lock()
    four = threading.Barrier(4)

    def open_endpoint(model: str, version: int, options: Options) -> Endpoint:
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        four.wait(20)
        with lock:
            together -= 1
        return opener(set())(model, version, options)

    async def go() -> None:
        exchange = LocalExchange()
        node = Node(
            Registry(*(to(f"m{n}", 1) for n in range(8))), open_endpoint, exchange, poll_s=0.01
        )
        await asyncio.wait_for(node.start(), 20)
        assert len(exchange.serving()) == 8
        await node.stop()

    asyncio.run(go())
    assert most == 4


def test_changed_options_load_a_version_anew() -> None:
    """The version is swapped for itself; one that cannot be loaded so goes on as it was."""
    opened: list[Options] = []
    registry = Registry(to("a", 1))

    def open_endpoint(model: str, version: int, options: Options) -> Endpoint:
        opened.append(options)
        if options.lanes == 7:
            raise Unavailable("no", "seven is too many")
        return opener(set())(model, version, options)

    async def go() -> None:
        exchange = LocalExchange()
        node = Node(registry, open_endpoint, exchange, poll_s=0.01)
        await node.start()
        before = exchange.find("a")
        registry.change(to("a", 1, options=Options(lanes=2)))
        await until(lambda: exchange.find("a") is not before)
        assert before.is_retired
        after = exchange.find("a")
        registry.change(to("a", 1, options=Options(lanes=7)))
        await until(lambda: any(line.reason for line in exchange.listings()))
        assert exchange.find("a") is after
        [line] = exchange.listings()
        assert (line.ready, line.reason) == (True, "seven is too many")
        registry.change(to("a", 1, options=Options(lanes=2)))
        await until(lambda: not any(line.reason for line in exchange.listings()))
        assert exchange.find("a") is after
        await node.stop()

    asyncio.run(asyncio.wait_for(go(), 20))
    assert opened == [Options(), Options(lanes=2), Options(lanes=7)]


def test_a_version_in_trouble_is_not_ready_and_its_canary_share_goes_back() -> None:
    """A backend that has died shows in listings and health; calls go where they are answered."""
    registry = Registry(to("a", 1, 2, canary=50.0))
    troubles: dict[int, str] = {}

    def open_endpoint(model: str, version: int, options: Options) -> Endpoint:
        runtime = FunctionRuntime(SIGNATURE, lambda inputs: {"y": inputs["x"]})
        statistics = Statistics()
        backend = Ailing(f"{model}:{version}", runtime, BatchCost(), LIMITS, statistics)
        backend.version, backend.troubles = version, troubles
        identity = Identity(
            model=model, version=version, digest="", platform="test", signature=SIGNATURE
        )
        return Endpoint(identity, backend, OpenGate(), statistics)

    async def go() -> None:
        exchange = LocalExchange()
        node = Node(registry, open_endpoint, exchange, poll_s=0.01)
        await node.start()
        troubles[2] = "its process died"
        assert {exchange.find("a").version for _ in range(50)} == {1}
        assert exchange.is_ready()
        [one, two] = exchange.listings()
        assert (one.ready, two.ready, two.reason) == (True, False, "its process died")
        troubles[1] = "its process died too"
        assert not exchange.is_ready()
        troubles.clear()
        assert {exchange.find("a").version for _ in range(50)} == {1, 2}
        await node.stop()

    asyncio.run(asyncio.wait_for(go(), 20))


def test_a_shadow_answers_by_its_number_while_the_stable_version_cannot() -> None:
    """Calls to the model are refused with the reason, and the shadow is still there to look at."""

    async def script(exchange: LocalExchange) -> None:
        assert exchange.find("a", "2").version == 2
        with pytest.raises(Unavailable, match="a:1 is damaged"):
            exchange.find("a")
        assert not exchange.is_ready()

    follow(Registry(to("a", 1).with_shadow(2, 100.0)), script, {("a", 1)})
