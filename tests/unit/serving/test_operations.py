import asyncio
from collections.abc import Sequence

import numpy as np
import pytest

from modelyard.core.datatypes import Datatype
from modelyard.core.errors import NotFound, Unavailable
from modelyard.core.identity import Actor
from modelyard.core.route import Route, Target
from modelyard.core.signature import Signature, TensorSpec
from modelyard.serving.exchange import LocalExchange
from modelyard.serving.operations import NodeOperations, OnlyChild
from modelyard.testing.serving import FunctionRuntime, endpoint_of

SPEC = TensorSpec(name="x", datatype=Datatype.FP32, shape=(-1, 1))
ACTOR = Actor(name="ann")
SIGNATURE = Signature(inputs=(SPEC,), outputs=(SPEC,))


class Deployments:
    """Routes in memory; each change has the next generation, and the exchange follows later."""

    def __init__(self, exchange: LocalExchange) -> None:
        self.exchange = exchange
        self.loop = asyncio.get_running_loop()
        self.by_model: dict[str, Route] = {}
        self.generation = 0
        self.actors: list[Actor] = []

    def routes(self) -> Sequence[Route]:
        return list(self.by_model.values())

    def deploy(self, model: str, number: int | None = None, *, actor: Actor) -> Route:
        self.generation += 1
        self.actors.append(actor)
        route = Route(
            model=model, generation=self.generation, targets=(Target(version=number or 1),)
        )
        self.by_model[model] = route
        self.loop.call_soon_threadsafe(self.exchange.follow, self.routes())
        return route

    def undeploy(self, model: str, *, actor: Actor) -> None:
        if self.by_model.pop(model, None) is None:
            raise NotFound("unknown_model", f"'{model}' has no route")
        self.loop.call_soon_threadsafe(self.exchange.follow, self.routes())


def install(exchange: LocalExchange, model: str) -> None:
    runtime = FunctionRuntime(SIGNATURE, lambda inputs: {"x": np.asarray(inputs["x"])})
    exchange.install(endpoint_of(runtime, model=model))


def test_load_waits_until_the_model_answers() -> None:
    """It deploys in its caller's name what has no route, and returns when that answers."""

    async def run() -> None:
        exchange = LocalExchange()
        deployments = Deployments(exchange)
        operations = NodeOperations(deployments, OnlyChild(exchange))
        loading = asyncio.ensure_future(operations.load("churn", ACTOR))
        await asyncio.sleep(0.05)
        assert not loading.done()
        install(exchange, "churn")
        await loading
        assert exchange.find("churn").version == 1
        assert deployments.actors == [ACTOR]
        exchange.close()

    asyncio.run(run())


def test_load_says_why_a_version_cannot_be_served() -> None:
    """A version that fails to load is an error with its reason, not a wait for ever."""

    async def run() -> None:
        exchange = LocalExchange()
        deployments = Deployments(exchange)
        operations = NodeOperations(deployments, OnlyChild(exchange))
        deployments.deploy("churn", 3, actor="test")
        exchange.report_failure("churn", 3, "its file is damaged")
        with pytest.raises(Unavailable, match="its file is damaged"):
            await operations.load("churn", ACTOR)

    asyncio.run(run())


def test_unload_waits_until_nobody_answers() -> None:
    """It takes the route away and returns when the model is gone; twice is an error."""

    async def run() -> None:
        exchange = LocalExchange()
        exchange.mark_synced()
        operations = NodeOperations(Deployments(exchange), OnlyChild(exchange))
        loading = asyncio.ensure_future(operations.load("churn", ACTOR))
        await asyncio.sleep(0.02)
        install(exchange, "churn")
        await loading
        await operations.unload("churn", ACTOR)
        with pytest.raises(NotFound):
            exchange.find("churn")
        with pytest.raises(NotFound):
            await operations.unload("churn", ACTOR)

    asyncio.run(run())


def test_statistics_are_of_one_or_of_all() -> None:
    """By model, by version, or every version; what is not served is not found."""

    async def run() -> None:
        exchange = LocalExchange()
        operations = NodeOperations(Deployments(exchange), OnlyChild(exchange))
        for model in ("churn", "fraud"):
            install(exchange, model)
        assert [each.model for each in await operations.statistics()] == ["churn", "fraud"]
        (one,) = await operations.statistics("fraud", "1")
        assert (one.model, one.version) == ("fraud", 1)
        for model, version in (("none", None), ("fraud", "2")):
            with pytest.raises(NotFound, match="is served here"):
                await operations.statistics(model, version)
        exchange.close()

    asyncio.run(run())
