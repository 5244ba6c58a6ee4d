"""The HTTP server: uvicorn with our protocol class, on the caller's running loop."""

import asyncio
import socket
from functools import partial
from typing import Any, Final

import uvicorn

from modelyard.api.http.protocol import InferenceProtocol
from modelyard.api.http.surroundings import Surroundings
from modelyard.core.errors import Unavailable
from modelyard.core.ports import Exchange

KEEP_ALIVE_S: Final = 75.0
"""How long a silent connection is kept: longer than clients' pools keep theirs."""
_HEAD_S: Final = 30.0
_SWEEP_S: Final = 1.0


class LazyApplication:
    """The ASGI application, imported and made in a thread at the first request that needs it."""

    def __init__(self, exchange: Exchange, version: str) -> None:
        self._exchange = exchange
        self._version = version
        self._made: asyncio.Future[Any] | None = None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request."""
        if self._made is None:
            self._made = asyncio.get_running_loop().run_in_executor(None, self._make)
        application = await asyncio.shield(self._made)
        await application(scope, receive, send)

    def _make(self) -> object:
        from modelyard.api.http.application import make_application

        return make_application(self._exchange, self._version)


class HttpServer:
    """Answers calls over HTTP until it is stopped."""

    def __init__(
        self, exchange: Exchange, *, host: str, port: int, max_body_bytes: int, version: str
    ) -> None:
        self._host = host
        self._port = port
        self._surroundings = Surroundings(exchange, max_body_bytes=max_body_bytes)
        config = uvicorn.Config(
            LazyApplication(exchange, version),
            http=partial(InferenceProtocol, surroundings=self._surroundings),  # type: ignore[arg-type]
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
        self._sockets: list[socket.socket] = []
        self._ticking: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Listen; returns the bound port. Raises `Unavailable` when the address is taken."""
        bound = bind(self._host, self._port)
        self._sockets = [bound]
        self._server.config.load()
        self._server.lifespan = self._server.config.lifespan_class(self._server.config)
        await self._server.startup(sockets=self._sockets)
        self._ticking = asyncio.create_task(self._server.main_loop())
        self._sweeping = asyncio.create_task(self._sweep())
        port: int = bound.getsockname()[1]
        return port

    async def stop(self, grace_s: float) -> None:
        """Accept no more, finish what was accepted, close; at most `grace_s` seconds."""
        if self._ticking is None or self._sweeping is None:
            return
        self._server.should_exit = True
        self._server.config.timeout_graceful_shutdown = max(1, int(grace_s))
        self._sweeping.cancel()
        await self._ticking
        await self._server.shutdown(sockets=self._sockets)
        for connection in list(self._server.server_state.connections):
            if isinstance(connection, InferenceProtocol):
                connection.give_up()
        self._surroundings.reader.shutdown(wait=False, cancel_futures=True)
        # What was written to them goes out at the end of the loop's turn.
        await asyncio.sleep(0)

    async def _sweep(self) -> None:
        """Close what is silent: one look a second at all connections, not a timer for each."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(_SWEEP_S)
            now = loop.time()
            for connection in list(self._server.server_state.connections):
                if isinstance(connection, InferenceProtocol):
                    connection.close_if_idle(now, keep_alive_s=KEEP_ALIVE_S, head_s=_HEAD_S)


def bind(host: str, port: int) -> socket.socket:
    """A bound TCP socket; raises `Unavailable` saying what to do where it cannot be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With its protocol named: asyncio switches Nagle's algorithm off only for sockets that say TCP,
    # and with it on, the second of two pipelined answers comes 40 ms late.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise Unavailable(
            "address_in_use",
            f"cannot listen on {host}:{port} ({error.strerror}); "
            "take another port, or 0 for a free one",
            field="port",
        ) from None
    bound.set_inheritable(False)
    return bound
