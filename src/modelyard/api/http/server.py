"""The HTTP server: uvicorn with our protocol class, on the caller's running loop."""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, Final

import uvicorn

from modelyard.api.addresses import bind_http
from modelyard.api.adoption import Adoption, wrapped_by
from modelyard.api.http.contracts import NO_CLOUD, Contracts
from modelyard.api.http.protocol import InferenceProtocol
from modelyard.api.http.surroundings import Surroundings
from modelyard.api.tls import Tls, TlsFiles
from modelyard.core.administration.port import Reception
from modelyard.core.ports import Access, Exchange, Operations

KEEP_ALIVE_S: Final = 75.0
"""How long a silent connection is kept: longer than clients' pools keep theirs."""
_HEAD_S: Final = 30.0
_SWEEP_S: Final = 1.0
_BACKLOG: Final = 2048
_CLOSING_POLL_S: Final = 0.01
_STAY_WITH_TLS: Final = ("strict-transport-security", "max-age=31536000")


class LazyApplication:
    """The ASGI application, imported and made in a thread at the first request that needs it."""

    def __init__(self, exchange: Exchange, access: Access, **options: Any) -> None:
        self._exchange = exchange
        self._access = access
        self._options = options
        self._made: asyncio.Future[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if self._made is None:
            self._made = asyncio.get_running_loop().run_in_executor(None, self._make)
        application = await asyncio.shield(self._made)
        await application(scope, receive, send)

    def _make(self) -> object:
        from modelyard.api.http.application import make_application

        return make_application(self._exchange, self._access, **self._options)


class _Connection(InferenceProtocol):
    """A connection that says when it has ended here."""

    def __init__(self, *args: Any, on_closed: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._on_closed = on_closed

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed, or another process has it."""
        super().connection_lost(exc)
        self._on_closed()


class HttpServer:
    """Answers calls over HTTP until it is stopped.

    Its connections come from a port of its own (`port`, 0 for a free one), or, where that is None,
    from somebody else who accepts them: `adopt`. Every request asks `access` who is calling. With
    `tls` it speaks HTTPS.
    """

    def __init__(
        self,
        exchange: Exchange,
        *,
        access: Access,
        tls: TlsFiles | None = None,
        host: str = "",
        port: int | None = None,
        max_body_bytes: int,
        version: str,
        operations: Operations | None = None,
        contracts: Contracts = NO_CLOUD,
        administration: Reception | None = None,
        on_closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._host = host
        self._port = port
        self._on_closed = on_closed
        self._surroundings = Surroundings(
            exchange, access, max_body_bytes=max_body_bytes, contracts=contracts
        )
        application = LazyApplication(
            exchange,
            access,
            version=version,
            operations=operations,
            contracts=contracts,
            administration=administration,
        )
        shaken = None if tls is None else Tls(tls, "http/1.1")
        self._wrapped = wrapped_by(shaken)
        config = uvicorn.Config(
            application,
            headers=[] if shaken is None else [_STAY_WITH_TLS],
            http=InferenceProtocol,
            ws="none",
            lifespan="off",
            log_config=None,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=int(KEEP_ALIVE_S),
        )
        self._server = uvicorn.Server(config)
        self._listener: asyncio.Server | None = None
        self._adoption = Adoption(self._connection, self._on_closed, shaken)
        self._ticking: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Begin; returns the bound port, 0 without one. Raises `Unavailable` when it is taken."""
        self._server.config.load()
        port = 0
        if self._port is not None:
            bound = bind_http(self._host, self._port)
            self._listener = await asyncio.get_running_loop().create_server(
                self._connection, sock=bound, backlog=_BACKLOG, **self._wrapped
            )
            port = bound.getsockname()[1]
        self._ticking = asyncio.create_task(self._server.main_loop())
        self._sweeping = asyncio.create_task(self._sweep())
        return port

    @property
    def connections(self) -> int:
        """Connections that are open here."""
        return len(self._server.server_state.connections) + len(self._adoption)

    def adopt(self, connection: socket.socket) -> None:
        """Serve a connection that somebody else has accepted; it is the server's from now on."""
        self._adoption.take(connection)

    def _connection(self) -> InferenceProtocol:
        return _Connection(
            self._server.config,
            self._server.server_state,
            {},
            surroundings=self._surroundings,
            on_closed=self._on_closed,
        )

    async def release(self, take: Callable[[socket.socket], None], grace_s: float) -> None:
        """Give every connection away, each when its request is answered; at most `grace_s` seconds.

        What is left then is for `stop` to end.
        """
        await self._adopted()
        for connection in self._open_connections():
            connection.release(take)
        await self._until_closed(grace_s)

    async def stop(self, grace_s: float) -> None:
        """Accept no more, finish what was accepted, close; at most `grace_s` seconds."""
        if self._ticking is None or self._sweeping is None:
            return
        if self._listener is not None:
            self._listener.close()
        await self._adopted()
        for connection in self._open_connections():
            connection.finish_soon()
        await self._until_closed(grace_s)
        for connection in self._open_connections():
            connection.give_up()
        self._sweeping.cancel()
        self._server.should_exit = True
        await self._ticking
        for task in self._server.server_state.tasks:
            task.cancel()
        self._surroundings.reader.shutdown(wait=False, cancel_futures=True)
        # What was written to them goes out at the end of the loop's turn.
        await asyncio.sleep(0)

    async def _adopted(self) -> None:
        await self._adoption.settled()

    async def _until_closed(self, grace_s: float) -> None:
        # Applications finish after their connection has gone, or without one.
        state = self._server.server_state
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                while state.connections or state.tasks:
                    await asyncio.sleep(_CLOSING_POLL_S)

    def _open_connections(self) -> list[InferenceProtocol]:
        connections = self._server.server_state.connections
        return [each for each in connections if isinstance(each, InferenceProtocol)]

    async def _sweep(self) -> None:
        """Close what is silent: one look a second at all connections, not a timer for each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = loop.time()
            for connection in self._open_connections():
                connection.close_if_idle(now, keep_alive_s=KEEP_ALIVE_S, head_s=_HEAD_S)
