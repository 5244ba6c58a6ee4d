"""Connections that somebody else has accepted, taken over by a server of ours."""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

from modelyard.api.tls import HANDSHAKE_S, SHUTDOWN_S, Tls

_LAST_HANDSHAKES_S: Final = 1.0


class Adoption:
    """Serves handed connections by protocols that `make` makes; `on_lost` hears of callers who were
    gone before we had them, or with whom hands could not be shaken."""

    def __init__(
        self,
        make: Callable[[], asyncio.BaseProtocol],
        on_lost: Callable[[], None],
        tls: Tls | None = None,
    ) -> None:
        self._make = make
        self._on_lost = on_lost
        self._wrapped = wrapped_by(tls)
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def take(self, connection: socket.socket) -> None:
        """Serve a connection; it is the server's from now on."""
        task = asyncio.get_running_loop().create_task(self._adopt(connection))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def settled(self) -> None:
        """Until none is on its way any more; who shakes hands too slowly is given up."""
        if self._running:
            _, slow = await asyncio.wait(self._running, timeout=_LAST_HANDSHAKES_S)
            for each in slow:
                each.cancel()
            if slow:
                await asyncio.wait(slow)

    async def _adopt(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(
                self._make, connection, **self._wrapped
            )
        except (OSError, asyncio.CancelledError):
            connection.close()
            self._on_lost()


def wrapped_by(tls: Tls | None) -> dict[str, Any]:
    """What an event loop is told of a server's TLS; nothing where it speaks in the clear."""
    if tls is None:
        return {}
    return {
        "ssl": tls.context,
        "ssl_handshake_timeout": HANDSHAKE_S,
        "ssl_shutdown_timeout": SHUTDOWN_S,
    }
