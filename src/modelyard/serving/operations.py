"""What protocols may ask of the whole node: statistics over all workers, load and unload."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from modelyard.core.errors import NotFound, Unavailable
from modelyard.core.identity import Actor
from modelyard.core.ports import ServedStatistics
from modelyard.core.route import Route
from modelyard.serving.exchange import LocalExchange
from modelyard.serving.report import Report

LONGEST_WAIT_S: Final = 600.0
STILL_LOADING: Final = "it is still being loaded"
_POLL_S: Final = 0.01

Version = tuple[str, int]
Totals = Mapping[Version, Report]


class Deployments(Protocol):
    """Where routes are written: the registry. Its methods block."""

    def routes(self) -> Sequence[Route]:
        """All routes."""
        ...

    def deploy(self, model: str, number: int | None = None, *, actor: Actor) -> Route:
        """Route a model to a version, by default its newest that was accepted."""
        ...

    def undeploy(self, model: str, *, actor: Actor) -> None:
        """Take a model's route away."""
        ...


class Siblings(Protocol):
    """All workers of the node, this one among them."""

    async def totals(self) -> Totals:
        """What all of them have counted of each version that is served."""
        ...

    async def settle(self, model: str, generation: int | None) -> Sequence[str]:
        """Wait until all of them follow a model's route; why some do not answer, if any."""
        ...


class OnlyChild:
    """The one process of a node without workers."""

    def __init__(self, exchange: LocalExchange) -> None:
        self._exchange = exchange

    async def totals(self) -> Totals:
        """Its own counts."""
        return {
            (endpoint.model, endpoint.version): endpoint.describe().report
            for endpoint in self._exchange.endpoints()
        }

    async def settle(self, model: str, generation: int | None) -> Sequence[str]:
        """Wait for itself."""
        reason = await settled(self._exchange, model, generation)
        return [reason] if reason else []


class NodeOperations:
    """The port `Operations` over a registry and the workers that follow it."""

    def __init__(self, deployments: Deployments, siblings: Siblings) -> None:
        self._deployments = deployments
        self._siblings = siblings

    async def statistics(
        self, model: str | None = None, version: str | None = None
    ) -> Sequence[ServedStatistics]:
        """Of one version, or of all that are served; raises `NotFound`."""
        found = [
            report.statistics(name, number)
            for (name, number), report in sorted((await self._siblings.totals()).items())
            if model in (None, name) and version in (None, str(number))
        ]
        if model is not None and not found:
            number = f":{version:.40}" if version else ""
            raise NotFound(
                "unknown_model", f"no model '{model:.140}{number}' is served here", field="model"
            )
        return found

    async def load(self, model: str, actor: Actor) -> None:
        """Deploy a model's newest accepted version, or wait for the routed one, in every worker."""
        route = await asyncio.to_thread(self._routed, model, actor)
        reasons = await self._siblings.settle(model, route.generation)
        if reasons:
            raise Unavailable(
                "not_serving", f"'{model:.140}' cannot be served: {reasons[0]}", field="model"
            )

    async def unload(self, model: str, actor: Actor) -> None:
        """Take a model's route away and wait until no worker answers for it."""
        await asyncio.to_thread(self._deployments.undeploy, model, actor=actor)
        await self._siblings.settle(model, None)

    def _routed(self, model: str, actor: Actor) -> Route:
        for route in self._deployments.routes():
            if route.model == model:
                return route
        return self._deployments.deploy(model, actor=actor)


async def settled(
    exchange: LocalExchange,
    model: str,
    generation: int | None,
    patience_s: float = LONGEST_WAIT_S,
) -> str:
    """Wait until this process follows a model's route; "" where it answers, else why not."""
    until_s = time.monotonic() + patience_s
    while (standing := exchange.standing(model, generation)) is None:
        if time.monotonic() > until_s:
            return STILL_LOADING
        await asyncio.sleep(_POLL_S)
    return standing
