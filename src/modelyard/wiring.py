"""The only place that names concrete classes: a configuration becomes a running system."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

from modelyard import __version__
from modelyard.bundle.draft import Draft
from modelyard.core.config import Config
from modelyard.core.errors import Conflict, Unavailable
from modelyard.core.names import Reference
from modelyard.core.ports import Gate
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry

if TYPE_CHECKING:
    from modelyard.serving.endpoint import Endpoint

_T = TypeVar("_T")

_log = logging.getLogger(__name__)
_OWNER_FILE: Final = "registry.id"


def blob_store(config: Config) -> LocalBlobStore:
    """Where a home's blobs lie."""
    return LocalBlobStore(config.home)


def open_registry(config: Config) -> Registry:
    """The registry of a home, made if it is not there yet."""
    try:
        config.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            "bad_home",
            f"the home {config.home} cannot be used ({error.strerror}); give another with --home",
            field="home",
        ) from None
    registry = Registry.open(config.registry_url, blob_store(config))
    try:
        _check_owner(config.home, registry.identity())
    except BaseException:
        registry.close()
        raise
    return registry


def _check_owner(home: Path, identity: str) -> None:
    """Refuse a home whose blobs belong to another registry: a repair would collect them all."""
    file = home / _OWNER_FILE
    if not file.exists():
        with Draft(home) as draft:
            draft.file.write(identity.encode())
            draft.publish(file)
    owner = file.read_text("utf-8").strip()
    if owner != identity:
        raise Conflict(
            "foreign_home",
            f"the bundles in {home} belong to another registry than database_url names; "
            "use the one that made them, or another home",
            field="database_url",
        )


def endpoint_opener(
    config: Config, registry: Registry, gate: Gate
) -> Callable[[str, int], "Endpoint"]:
    """How a node loads a version: verify, check trust, construct, warm up. Blocks; raises."""
    from modelyard.bundle.samples import decode_samples
    from modelyard.runtimes.open import open_runtime, platform_of
    from modelyard.serving.endpoint import Endpoint, Identity
    from modelyard.serving.scheduler import Limits, Scheduler
    from modelyard.serving.statistics import Statistics
    from modelyard.serving.warmup import warm_up

    limits = Limits(
        queue_rows=config.queue_rows,
        max_batch_rows=config.max_batch_rows,
        inline_us=config.inline_us,
        lanes=config.lanes or usable_cores(),
    )

    def open_endpoint(model: str, number: int) -> "Endpoint":
        version = registry.resolve(Reference(model, version=number))
        bundle = registry.bundle(version)
        bundle.verify()
        manifest = bundle.manifest
        samples = decode_samples(bundle.read(manifest.samples)) if manifest.samples else None
        runtime = open_runtime(bundle)
        identity = Identity(
            model=model,
            version=number,
            digest=bundle.digest,
            platform=platform_of(manifest.serving.format),
            signature=runtime.signature,
            sample=samples.inputs if samples else None,
        )
        statistics = Statistics()
        try:
            cost = warm_up(runtime, samples)
        except BaseException:
            runtime.close()
            raise
        backend = Scheduler(f"{model}:{number}", runtime, cost, limits, statistics)
        return Endpoint(identity, backend, gate, statistics)

    return open_endpoint


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


def usable_cores() -> int:
    """Processors that this process may use, as its affinity says."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
