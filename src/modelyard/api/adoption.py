"""Connections that somebody else has accepted, taken over by a server of ours."""

import asyncio
import socket
from collections.abc import Callable


class Adoption:
    """Serves handed connections by protocols that `make` makes; `on_lost` hears of callers who were
    gone before we had them."""

    def __init__(
        self, make: Callable[[], asyncio.BaseProtocol], on_lost: Callable[[], None]
    ) -> None:
        self._make = make
        self._on_lost = on_lost
        self._running: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def take(self, connection: socket.socket) -> None:
        """Serve a connection; it is the server's from now on."""
        task = asyncio.get_running_loop().create_task(self._adopt(connection))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def settled(self) -> None:
        """Until none is on its way any more."""
        if self._running:
            await asyncio.wait(self._running)

    async def _adopt(self, connection: socket.socket) -> None:
        try:
            connection.setblocking(False)
            await asyncio.get_running_loop().connect_accepted_socket(self._make, connection)
        except OSError:
            connection.close()
            self._on_lost()
