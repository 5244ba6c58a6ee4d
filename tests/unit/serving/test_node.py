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
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.exchange import LocalExchange
from modelyard.serving.node import Node
from modelyard.testing.serving import FunctionRuntime, endpoint_of

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
