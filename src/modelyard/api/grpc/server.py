"""The gRPC server: binds, accepts, and ends connections in good order."""

import asyncio
import contextlib
import os
import socket
from typing import Final

from modelyard.api.grpc.connection import GrpcConnection
from modelyard.api.grpc.methods import make_methods
from modelyard.core.errors import Unavailable
from modelyard.core.ports import Exchange, Operations

_BACKLOG: Final = 2048


class GrpcServer:
    """Serves one exchange on the running loop, which must be the exchange's own.

    `reuse_port` lets several processes share the port: each must be given the same one. With
    `may_change` callers may load and unload models.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        host: str,
        port: int,
        max_message_bytes: int,
        reuse_port: bool = False,
        operations: Operations | None = None,
        may_change: bool = False,
    ) -> None:
        self._host = host
        self._port = port
        self._max_message_bytes = max_message_bytes
        self._reuse_port = reuse_port
        self._methods = make_methods(exchange, operations, may_change=may_change)
        self._connections: set[GrpcConnection] = set()
        self._all_closed = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._bound: socket.socket | None = None
        self._is_stopping = False
        self._adopting: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Bind and serve; returns the bound port. Raises `Unavailable` where it cannot bind."""
        bound = self._bound = self._bind()
        self._listener = await asyncio.get_running_loop().create_server(
            self._connection, sock=bound, backlog=_BACKLOG
        )
        port: int = bound.getsockname()[1]
        return port

    def _bind(self) -> socket.socket:
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        # With its protocol named: asyncio switches Nagle's algorithm off only for such.
        bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        try:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._reuse_port:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            bound.bind((self._host, self._port))
        except OSError as error:
            bound.close()
            # What getaddrinfo raises is an OSError with a number below zero and its own words.
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise Unavailable(
                "address_in_use",
                f"gRPC cannot listen on {self._host}:{self._port} ({why}); "
                "take another --grpc-port, or 0 for a free one",
                field="grpc_port",
            ) from None
        return bound

    def adopt(self, connection: socket.socket) -> None:
        """Serve a connection that somebody else has accepted; it is the server's from now on."""
        task = asyncio.get_running_loop().create_task(self._adopt(connection))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    async def _adopt(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._connection, connection)
        except OSError:
            # The caller was gone before we had it.
            connection.close()

    def _connection(self) -> GrpcConnection:
        return GrpcConnection(
            self._methods,
            max_message_bytes=self._max_message_bytes,
            on_opened=self._opened,
            on_closed=self._closed,
        )

    def _opened(self, connection: GrpcConnection) -> None:
        self._connections.add(connection)
        self._all_closed.clear()
        if self._is_stopping:
            connection.finish_soon()

    def _closed(self, connection: GrpcConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._all_closed.set()

    @property
    def connections(self) -> int:
        """Connections that are open here."""
        return len(self._connections)

    async def stop(self, grace_s: float) -> None:
        """Accept no more, wait for calls that run, and cut off what is left after `grace_s`."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        self._is_stopping = True
        self._accept_the_rest()
        listener.close()
        if self._adopting:
            await asyncio.wait(self._adopting)
        for connection in tuple(self._connections):
            connection.finish_soon()
        if self._connections:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace_s):
                    await self._all_closed.wait()
        for connection in tuple(self._connections):
            connection.give_up()
        await asyncio.sleep(0)

    def _accept_the_rest(self) -> None:
        # The kernel resets what it has accepted and we have not, when the port is closed.
        if self._bound is not None:
            with contextlib.suppress(OSError):
                while True:
                    self.adopt(self._bound.accept()[0])
