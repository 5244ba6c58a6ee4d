"""The gRPC server: binds, accepts, and ends connections in good order."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Final

from modelyard.api.addresses import bind_grpc
from modelyard.api.adoption import Adoption, wrapped_by
from modelyard.api.grpc.connection import GrpcConnection
from modelyard.api.grpc.methods import make_methods
from modelyard.api.tls import Tls, TlsFiles
from modelyard.core.ports import Access, Exchange, Operations

_BACKLOG: Final = 2048


class GrpcServer:
    """Serves one exchange on the running loop, which must be the exchange's own.

    Its connections come from a port of its own (`port`, 0 for a free one), or, where that is None,
    from somebody else who accepts them: `adopt`; `on_closed` hears of each connection that ends.
    Every RPC asks `access` who is calling. With `tls` it is gRPC over TLS.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        access: Access,
        tls: TlsFiles | None = None,
        host: str,
        port: int | None,
        max_message_bytes: int,
        operations: Operations | None = None,
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._host = host
        self._port = port
        self._max_message_bytes = max_message_bytes
        self._on_closed = on_closed
        self._methods = make_methods(exchange, operations)
        self._access = access
        shaken = None if tls is None else Tls(tls, "h2")
        self._wrapped = wrapped_by(shaken)
        self._connections: set[GrpcConnection] = set()
        self._all_closed = asyncio.Event()
        self._listener: asyncio.Server | None = None
        self._bound: socket.socket | None = None
        self._is_running = False
        self._is_stopping = False
        self._adoption = Adoption(self._connection, self._on_closed, shaken)

    async def start(self) -> int:
        """Begin; returns the bound port, 0 without one. Raises `Unavailable` where it is taken."""
        self._is_running = True
        if self._port is None:
            return 0
        bound = self._bound = bind_grpc(self._host, self._port)
        self._listener = await asyncio.get_running_loop().create_server(
            self._connection, sock=bound, backlog=_BACKLOG, **self._wrapped
        )
        port: int = bound.getsockname()[1]
        return port

    def adopt(self, connection: socket.socket) -> None:
        """Serve a connection that somebody else has accepted; it is the server's from now on."""
        self._adoption.take(connection)

    def _connection(self) -> GrpcConnection:
        return GrpcConnection(
            self._methods,
            self._access,
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
        self._on_closed()

    @property
    def connections(self) -> int:
        """Connections that are open here."""
        return len(self._connections)

    async def stop(self, grace_s: float) -> None:
        """Accept no more, wait for calls that run, and cut off what is left after `grace_s`."""
        if not self._is_running:
            return
        self._is_running = False
        self._is_stopping = True
        self._accept_the_rest()
        if self._listener is not None:
            self._listener.close()
        await self._adoption.settled()
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
