"""The smallest gRPC server: grpc.aio, one method, one fixed answer, no message ever parsed.

`grpc_echo.py PORT PROCESSES ANSWER METHOD`: as many processes accept on one port; ANSWER is the
file that holds the serialised answer.
"""

import asyncio
import subprocess
import sys
from pathlib import Path

import grpc


class Echo(grpc.GenericRpcHandler):
    """Answers one method, whatever it is asked."""

    def __init__(self, method: str, answer: bytes) -> None:
        self._method = method

        async def reply(request: bytes, context: object) -> bytes:
            return answer

        self._handler = grpc.unary_unary_rpc_method_handler(reply)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        return self._handler if details.method == self._method else None


async def serve(port: int, answer: Path, method: str) -> None:
    server = grpc.aio.server(options=[("grpc.so_reuseport", 1)])
    server.add_generic_rpc_handlers((Echo(method, answer.read_bytes()),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    port, processes, answer, method = sys.argv[1:]
    # Not by fork: gRPC's threads do not survive one.
    if int(processes) > 1:
        subprocess.Popen([sys.executable, __file__, port, str(int(processes) - 1), answer, method])
    asyncio.run(serve(int(port), Path(answer), method))
