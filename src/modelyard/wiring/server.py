"""A server: one process that follows the registry, behind HTTP and gRPC."""

import asyncio
import contextlib
import gc
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from modelyard import __version__
from modelyard.core.config import Config
from modelyard.registry.registry import Registry
from modelyard.wiring.addresses import Addresses, Door
from modelyard.wiring.administration import make_reception
from modelyard.wiring.endpoints import endpoint_opener
from modelyard.wiring.gate import Entrance
from modelyard.wiring.model_process import local_places
from modelyard.wiring.remembered import RememberedRegistry, open_for_serving
from modelyard.wiring.tls import tls_files
from modelyard.wiring.waiting import unless

if TYPE_CHECKING:
    from modelyard.serving.operations import Siblings
    from modelyard.serving.places import LocalPlaces, Places
    from modelyard.serving.supervision.overview import WorkerReport


class Server:
    """A node that follows the registry, behind HTTP and gRPC, on the running loop.

    Alone, it binds the configured ports. As one of several workers (`is_worker`) it is given its
    connections: `http.adopt`, `grpc.adopt`; `on_closed` hears by which door each came that ends.
    `places` finds room for models that run apart, for all of so many `workers`; `siblings` are
    those workers.
    """

    def __init__(
        self,
        config: Config,
        registry: Registry,
        *,
        is_worker: bool = False,
        on_closed: Callable[[Door], None] = lambda _: None,
        places: "Places | None" = None,
        workers: int = 1,
        siblings: "Siblings | None" = None,
    ) -> None:
        from modelyard.api.grpc.server import GrpcServer
        from modelyard.api.http.contracts import Contracts
        from modelyard.api.http.server import HttpServer
        from modelyard.serving.exchange import LocalExchange
        from modelyard.serving.node import Node
        from modelyard.serving.operations import NodeOperations, OnlyChild

        self._config = config
        self._remembered = RememberedRegistry(config, registry)
        self._entrance = Entrance(config, registry, self._remembered)
        self.exchange = LocalExchange()
        # Ours: the processes of models that run apart, unless a supervisor owns them.
        self._places: LocalPlaces | None = None
        if places is None:
            places = self._places = local_places(config)
        opener = endpoint_opener(
            config, self._remembered, self._entrance.gate, places, workers=workers
        )
        self.node = Node(
            self._remembered,
            opener,
            self.exchange,
            poll_s=config.poll_s,
            rollouts=registry.rollouts,
        )
        operations = NodeOperations(registry, siblings or OnlyChild(self.exchange))
        tls = tls_files(config)
        self.http = HttpServer(
            self.exchange,
            access=self._entrance.access,
            tls=tls,
            host=config.host,
            port=None if is_worker else config.port,
            max_body_bytes=config.max_body_bytes,
            version=__version__,
            operations=operations,
            contracts=Contracts(config.default_model, config.health_route, config.predict_route),
            administration=make_reception(config, registry),
            on_closed=partial(on_closed, Door.HTTP),
        )
        self.grpc = GrpcServer(
            self.exchange,
            access=self._entrance.access,
            tls=tls,
            host=config.host,
            port=None if is_worker else config.grpc_port,
            max_message_bytes=config.max_body_bytes,
            operations=operations,
            on_closed=partial(on_closed, Door.GRPC),
        )

    async def start(self, on_listening: Callable[[], None] = lambda: None) -> Addresses:
        """Listen, and follow the routes once; when this returns, every loadable model answers.

        `on_listening` hears when calls are answered, though it be only that the server is starting.
        """
        try:
            self._remembered.start()
            await self._entrance.start()
            port = await self.http.start()
            grpc_port = await self.grpc.start()
            on_listening()
            await self.node.start()
        except BaseException:
            await self.stop()
            raise
        return Addresses(
            self._config.host, port, grpc_port, is_tls=bool(self._config.tls_certificate)
        )

    def report(self) -> "WorkerReport":
        """What it serves, and what it cannot serve."""
        from modelyard.serving.supervision.overview import Problem, WorkerReport

        return WorkerReport(
            endpoints=[endpoint.describe() for endpoint in self.exchange.endpoints()],
            routes=self.exchange.report(),
            problems=[
                Problem(each.model, each.version, each.reason)
                for each in self.exchange.listings()
                if not each.ready
            ],
            usage=self._entrance.usage(),
            payloads=self._entrance.payloads(),
        )

    async def stop(self, take: Callable[[socket.socket], None] | None = None) -> None:
        """Accept no more, finish what was accepted, settle, close.

        With `take` the HTTP connections are given to it, each when its request is answered: another
        worker goes on with them, so this one does not say that the server stops.
        """
        if take is None:
            self.exchange.drain()
        grace_s = self._config.drain_s
        await asyncio.gather(
            self.node.stop(grace_s), self._end_http(take, grace_s), self.grpc.stop(grace_s)
        )
        self.exchange.close()
        await self._entrance.stop()
        await asyncio.to_thread(self._remembered.stop)
        if self._places is not None:
            await asyncio.to_thread(self._places.close)

    async def _end_http(self, take: Callable[[socket.socket], None] | None, grace_s: float) -> None:
        until_s = time.monotonic() + grace_s
        if take is not None:
            await self.http.release(take, grace_s)
        await self.http.stop(until_s - time.monotonic())


async def serve_until_signalled(config: Config, on_started: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain. `on_started` hears where the server listens."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with open_for_serving(config) as registry:
        server = Server(config, registry)
        addresses = await unless(stopping, server.start())
        if addresses is None:
            return
        on_started(addresses)
        settle_memory()
        await stopping.wait()
        await server.stop()


def settle_memory() -> None:
    """What a start leaves behind stays: the collector need not walk over it again and again."""
    gc.collect()
    gc.freeze()


def run_on_fastest_loop(running: Coroutine[Any, Any, None]) -> None:
    """Run to the end on the fastest event loop there is here."""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.run(running)
        return
    asyncio.run(running)


def run_server(config: Config, on_started: Callable[[Addresses], None]) -> None:
    """Serve in this one process, without workers, until a signal comes."""
    run_on_fastest_loop(serve_until_signalled(config, on_started))
