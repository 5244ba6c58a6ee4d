"""gRPC's health checks, asked with gRPC's own client."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from modelyard.api.grpc.server import GrpcServer
from modelyard.core.errors import Unavailable
from modelyard.gateway.open_access import OpenAccess
from tests.unit.api.grpc.conftest import MAX_MESSAGE_BYTES, NumpyExchange, Running

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
PATIENCE_S = 20


class Exchange(NumpyExchange):
    """An exchange that is told whether it is ready."""

    ready = True
    broken: str | None = None

    def is_ready(self) -> bool:
        return self.ready

    def find(self, model: str, *rest: Any) -> Any:
        if model == self.broken:
            raise Unavailable("not_serving", "it does not load")
        return super().find(model, *rest)


def _check(channel: grpc.Channel, service: str) -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    status: int = health_pb2_grpc.HealthStub(channel).Check(request, timeout=PATIENCE_S).status
    return status


def test_the_server_its_services_and_models_are_checked(channel: grpc.Channel) -> None:
    """The empty name is the server; a service and a model go by their own."""
    for service in ("", "inference.GRPCInferenceService", "grpc.health.v1.Health", "sums"):
        assert _check(channel, service) == SERVING


def test_what_is_not_here_is_not_found(channel: grpc.Channel) -> None:
    """A name that is neither a service nor a model has no status, as the protocol says."""
    with pytest.raises(grpc.RpcError) as refused:
        _check(channel, "nothing")
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


def test_watch_tells_every_change_until_the_server_stops(running: Running) -> None:
    """Serving, draining, serving again, stopped; a model by its name alike."""
    exchange = Exchange(dict(running.exchange.models))

    async def scene() -> list[list[int]]:
        server = GrpcServer(
            exchange,
            access=OpenAccess(),
            host="127.0.0.1",
            port=0,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        address = f"127.0.0.1:{await server.start()}"
        async with grpc.aio.insecure_channel(address) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            names = ("", "sums", "nothing")
            watches = [stub.Watch(health_pb2.HealthCheckRequest(service=name)) for name in names]
            said = [[(await watch.read()).status] for watch in watches]
            exchange.ready, exchange.broken = False, "sums"
            exchange.models["nothing"] = exchange.models["half"]
            for told, watch in zip(said, watches, strict=True):
                told.append((await watch.read()).status)
            exchange.ready, exchange.broken = True, None
            for told, watch in zip(said[:2], watches[:2], strict=True):
                told.append((await watch.read()).status)
            stopping = asyncio.create_task(server.stop(PATIENCE_S))
            for told, watch in zip(said, watches, strict=True):
                told.append((await watch.read()).status)
                assert await watch.code() is grpc.StatusCode.UNAVAILABLE
            await stopping
        return said

    server, model, unknown = running.run(scene())
    assert server == [SERVING, NOT_SERVING, SERVING, NOT_SERVING]
    assert model == [SERVING, NOT_SERVING, SERVING, NOT_SERVING]
    assert unknown == [UNKNOWN, SERVING, NOT_SERVING]


def test_a_watch_that_ends_leaves_nothing_behind(running: Running) -> None:
    """When the caller leaves, nobody looks on for it."""
    exchange = Exchange(dict(running.exchange.models))
    looks: list[object] = []
    exchange.is_ready = lambda: looks.append(None) or True  # type: ignore[func-returns-value,method-assign]

    async def scene() -> int:
        server = GrpcServer(
            exchange,
            access=OpenAccess(),
            host="127.0.0.1",
            port=0,
            max_message_bytes=MAX_MESSAGE_BYTES,
        )
        address = f"127.0.0.1:{await server.start()}"
        async with grpc.aio.insecure_channel(address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            await watch.read()
            watch.cancel()
            # The next answer on the connection comes after the cancellation was read.
            await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
            before = len(looks)
            await asyncio.sleep(0.5)
            await server.stop(1)
        return len(looks) - before

    assert running.run(scene()) == 0
    assert looks
