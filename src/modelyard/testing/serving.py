"""Runtimes served for a test: real HTTP and gRPC servers in a thread, on free ports."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from modelyard import __version__
from modelyard.api.grpc.server import GrpcServer
from modelyard.api.http.contracts import NO_CLOUD, Contracts
from modelyard.api.http.server import HttpServer
from modelyard.api.tls import TlsFiles
from modelyard.core.datatypes import Array
from modelyard.core.ports import Access, Arrays, Operations, Runtime
from modelyard.core.signature import Signature
from modelyard.gateway.open_access import OpenAccess
from modelyard.gateway.open_gate import OpenGate
from modelyard.serving.cost import BatchCost
from modelyard.serving.endpoint import Endpoint, Identity
from modelyard.serving.exchange import LocalExchange
from modelyard.serving.scheduler import Limits, Scheduler
from modelyard.serving.statistics import Statistics

LIMITS = Limits(queue_rows=16_384, max_batch_rows=1024, inline_us=300, lanes=2)


class FunctionRuntime:
    """The runtime port's in-memory twin: a signature and a function over named arrays."""

    def __init__(self, signature: Signature, function: Callable[[Arrays], Arrays]) -> None:
        self._signature = signature
        self._function = function
        self.batches: list[int] = []
        self.is_closed = False

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """Call the function."""
        self.batches.append(len(next(iter(inputs.values()))) if inputs else 0)
        return dict(self._function(inputs))

    def close(self) -> None:
        """Remember that it was closed."""
        self.is_closed = True


def endpoint_of(
    runtime: Runtime,
    *,
    model: str = "model",
    version: int = 1,
    cost_us: float | None = 10.0,
    gate: OpenGate | None = None,
    limits: Limits = LIMITS,
    sample: Arrays | None = None,
    timeout_ms: float | None = None,
    cache_bytes: int | None = None,
) -> Endpoint:
    """An endpoint over a runtime. `cost_us` a row decides between in line and lane."""
    cost = BatchCost()
    if cost_us is not None:
        cost.observe(1, cost_us)
    identity = Identity(
        model=model,
        version=version,
        digest="sha256:test",
        platform="test",
        signature=runtime.signature,
        sample=sample,
    )
    statistics = Statistics()
    backend = Scheduler(f"{model}:{version}", runtime, cost, limits, statistics)
    return Endpoint(
        identity,
        backend,
        gate or OpenGate(),
        statistics,
        timeout_ms=timeout_ms,
        cache_bytes=cache_bytes,
    )


@dataclass(frozen=True, slots=True)
class Serving:
    """A running server: its exchange, its addresses, its gate, and a way onto its loop."""

    exchange: LocalExchange
    gate: OpenGate
    url: str
    grpc_address: str
    loop: asyncio.AbstractEventLoop

    def on_loop(self, act: Callable[[], object]) -> object:
        """Do something on the server's loop and wait for it."""

        async def run() -> object:
            return act()

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(timeout=30)


@contextlib.contextmanager
def serving(
    runtimes: Mapping[str, Runtime],
    *,
    cost_us: float | None = 10.0,
    limits: Limits = LIMITS,
    make_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    max_body_bytes: int = 4 * 1024 * 1024,
    operations: Operations | None = None,
    access: Access | None = None,
    tls: TlsFiles | None = None,
    contracts: Contracts = NO_CLOUD,
) -> Iterator[Serving]:
    """Serve runtimes by model name, as version 1 each, until the block ends."""
    loop = make_loop()
    thread = threading.Thread(target=loop.run_forever, name="test server", daemon=True)
    thread.start()
    exchange, gate = LocalExchange(), OpenGate()
    access = access or OpenAccess()
    http = HttpServer(
        exchange,
        access=access,
        tls=tls,
        host="127.0.0.1",
        port=0,
        max_body_bytes=max_body_bytes,
        version=__version__,
        operations=operations,
        contracts=contracts,
    )

    async def start() -> tuple[int, int]:
        for model, runtime in runtimes.items():
            exchange.install(
                endpoint_of(runtime, model=model, cost_us=cost_us, gate=gate, limits=limits)
            )
        exchange.mark_synced()
        return await http.start(), await grpc.start()

    async def make_grpc() -> GrpcServer:
        return GrpcServer(
            exchange,
            access=access,
            tls=tls,
            host="127.0.0.1",
            port=0,
            max_message_bytes=max_body_bytes,
            operations=operations,
        )

    async def stop() -> None:
        await asyncio.gather(http.stop(1.0), grpc.stop(1.0))
        exchange.close()

    grpc = asyncio.run_coroutine_threadsafe(make_grpc(), loop).result(timeout=30)
    try:
        port, grpc_port = asyncio.run_coroutine_threadsafe(start(), loop).result(timeout=30)
        scheme = "http" if tls is None else "https"
        yield Serving(
            exchange, gate, f"{scheme}://127.0.0.1:{port}", f"127.0.0.1:{grpc_port}", loop
        )
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(timeout=30)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(timeout=10)
        loop.close()
