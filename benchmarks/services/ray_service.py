"""Ray Serve: two replicas with batching, as its documentation shows. `ray_service.py PORT`."""

import asyncio
import signal
import sys
from typing import Any

import ray
from ray import serve
from served import Served
from starlette.requests import Request


@serve.deployment(num_replicas=2, ray_actor_options={"num_cpus": 1}, max_ongoing_requests=100)
class Service:
    def __init__(self) -> None:
        self.served = Served()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def answer(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return self.served.many(rows)

    async def __call__(self, request: Request) -> dict[str, Any]:
        answer: dict[str, Any] = await self.answer(await request.json())
        return answer


def on_loopback() -> None:
    """In every worker: a replica's own gRPC port binds all interfaces and knows no setting."""
    from ray.serve._private import replica

    add = replica.add_port_to_grpc_server
    replica.add_port_to_grpc_server = lambda server, _: add(server, "127.0.0.1:0")


async def forever() -> None:
    stop = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stop.set)
    await stop.wait()


if __name__ == "__main__":
    ray.init(
        num_cpus=3,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        object_store_memory=200_000_000,
        configure_logging=False,
        runtime_env={"worker_process_setup_hook": on_loopback},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Service.bind(), route_prefix="/predict")
    asyncio.run(forever())
    serve.shutdown()
    ray.shutdown()
