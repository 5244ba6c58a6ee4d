"""Connections handed from one process to another over a Unix socket (SCM_RIGHTS).

One message carries up to `MOST` of them. Whoever sends keeps nothing; what lies unread in the
receiver's socket can still be read by somebody else, so that a dead receiver loses none.
"""

import asyncio
import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

MOST: Final = 32
Door = int
"""Which of a server's listening sockets a connection came by, counted from 0."""
_RETRY_S: Final = 0.002
_FLAGS: Final = getattr(socket, "MSG_CMSG_CLOEXEC", 0)


def handover_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends; neither blocks, and each can give and take."""
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    one.setblocking(False)
    other.setblocking(False)
    return one, other


def give(through: socket.socket, door: Door, connections: Sequence[socket.socket]) -> bool:
    """Give connections of one door away, at most `MOST`, and close them here.

    False where the socket has no room or nobody reads it any more: then they are still the
    caller's.
    """
    try:
        socket.send_fds(through, [bytes((door,))], [each.fileno() for each in connections])
    except OSError:
        # No room, too many under way, or the other end is closed: for the caller all the same.
        return False
    for each in connections:
        each.close()
    return True


def take(through: socket.socket, family: int) -> tuple[Door, list[socket.socket]] | None:
    """The connections of one message: none when nothing waits; None when the other end has gone."""
    try:
        door, numbers, _, _ = socket.recv_fds(through, 1, MOST, _FLAGS)
    except BlockingIOError:
        return 0, []
    except OSError:
        return None
    if not door:
        return None
    # With everything named that would otherwise be asked of the kernel, three calls a connection.
    return door[0], [
        socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, fileno=number)
        for number in numbers
    ]


class Outbox:
    """Connections of one door on their way out, as fast as the other side takes them."""

    def __init__(self, through: socket.socket, door: Door) -> None:
        self._through = through
        self._door = door
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[socket.socket] = deque()
        self._sending: asyncio.Task[None] | None = None

    def put(self, connection: socket.socket) -> None:
        """Send a connection away; it is closed here when it has gone."""
        self._waiting.append(connection)
        if self._sending is None or self._sending.done():
            # Those of one turn of the loop go out together.
            self._sending = self._loop.create_task(self._send())

    async def emptied(self) -> None:
        """Until all have gone."""
        while self._waiting and self._sending is not None:
            await asyncio.wait({self._sending})

    async def _send(self) -> None:
        while self._waiting:
            some = [self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))]
            while not give(self._through, self._door, some):
                await asyncio.sleep(_RETRY_S)
