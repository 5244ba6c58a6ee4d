"""A server: one process that follows the registry, behind HTTP and gRPC."""

import asyncio
import contextlib
import gc
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, TypeVar

from modelyard import __version__
from modelyard.core.config import Config
from modelyard.registry.registry import Registry
from modelyard.wiring.endpoints import endpoint_opener
from modelyard.wiring.registry import open_registry

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where a running server listens."""

    host: str
    port: int
    grpc_port: int

    @property
    def url(self) -> str:
        """The HTTP base URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"


class Server:
    """One process of `modelyard serve`: a node that follows the registry, behind HTTP and gRPC."""

    def __init__(self, config: Config, registry: Registry) -> None:
        from modelyard.api.grpc.server import GrpcServer
        from modelyard.api.http.server import HttpServer
        from modelyard.gateway.open_gate import OpenGate
        from modelyard.serving.exchange import LocalExchange
        from modelyard.serving.node import Node

        self._config = config
        self._gate = OpenGate()
        self.exchange = LocalExchange()
        opener = endpoint_opener(config, registry, self._gate)
        self._node = Node(registry, opener, self.exchange, poll_s=config.poll_s)
        self._http = HttpServer(
            self.exchange,
            host=config.host,
            port=config.port,
            max_body_bytes=config.max_body_bytes,
            version=__version__,
        )
        self._grpc = GrpcServer(
            self.exchange,
            host=config.host,
            port=config.grpc_port,
            max_message_bytes=config.max_body_bytes,
        )

    async def start(self) -> Addresses:
        """Follow the routes once, then listen; when this returns, every loadable model answers."""
        port = await self._http.start()
        try:
            grpc_port = await self._grpc.start()
            await self._node.start()
        except BaseException:
            await self.stop()
            raise
        return Addresses(self._config.host, port, grpc_port)

    async def stop(self) -> None:
        """Accept no more, finish what was accepted, settle, close."""
        self.exchange.drain()
        grace_s = self._config.drain_s
        await asyncio.gather(
            self._node.stop(grace_s), self._http.stop(grace_s), self._grpc.stop(grace_s)
        )
        self.exchange.close()


async def serve_until_signalled(config: Config, on_started: Callable[[Addresses], None]) -> None:
    """Serve until SIGTERM or SIGINT, then drain. `on_started` hears where the server listens."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with open_registry(config) as registry:
        server = Server(config, registry)
        addresses = await _unless(stopping, server.start())
        if addresses is None:
            return
        on_started(addresses)
        # What a start leaves behind stays: the collector need not walk over it again and again.
        gc.collect()
        gc.freeze()
        await stopping.wait()
        await server.stop()


async def _unless(stopping: asyncio.Event, starting: Coroutine[Any, Any, _T]) -> _T | None:
    """What `starting` gives, or None when a signal came first: a load may take for ever."""
    task = asyncio.ensure_future(starting)
    signalled = asyncio.ensure_future(stopping.wait())
    await asyncio.wait({task, signalled}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if not task.done():
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        return None
    return task.result()


def run_server(config: Config, on_started: Callable[[Addresses], None]) -> None:
    """Run `serve_until_signalled` on the fastest event loop there is here."""
    with contextlib.suppress(ImportError):
        import uvloop

        uvloop.run(serve_until_signalled(config, on_started))
        return
    asyncio.run(serve_until_signalled(config, on_started))
