"""What all connections of one server share."""

import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, ParamSpec, TypeVar

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from modelyard.api.http.contracts import LIVE, NO_CLOUD, READY, Contracts
from modelyard.api.http.doors import Door, Doors
from modelyard.api.http.preferences import Preferences
from modelyard.api.http.wire import JSON
from modelyard.core.ports import Access, Exchange, Headers

_P = ParamSpec("_P")
_T = TypeVar("_T")
PEER: Final = "modelyard.peer"
"""The ASGI extension that tells the application who is at the other end of the connection."""
_MOST_HEADS: Final = 1024
_LONGEST_HEAD: Final = 4096


@dataclass(frozen=True, slots=True)
class KnownHead:
    """What parsing a request's head gave: its door, headers, wishes, and the bytes of its body."""

    door: Door
    headers: Headers
    preferences: Preferences | None
    length: int


class Surroundings:
    """Access, the exchange and its doors, the reader of large bodies, the head of a good answer."""

    def __init__(
        self,
        exchange: Exchange,
        access: Access,
        *,
        max_body_bytes: int,
        contracts: Contracts = NO_CLOUD,
    ) -> None:
        self.exchange = exchange
        self.access = access
        self.contracts = contracts
        self.doors = Doors(exchange, contracts)
        self.health_paths = frozenset((LIVE, READY)) | contracts.ready_paths
        self.max_body_bytes = max_body_bytes
        # One thread: large requests wait for each other, and the loop for a time slice at most.
        self.reader = ThreadPoolExecutor(1, "modelyard reader")
        # Callers send the same head again and again: byte for byte the same, it means the same.
        self.heads: dict[bytes, KnownHead] = {}
        self.date_of: object = None
        self._ok = self.ok_json = b""

    def learn(self, head: bytes, known: KnownHead) -> None:
        """Keep what a head means; bounded, and begun anew when full."""
        if len(head) > _LONGEST_HEAD:
            return
        if len(self.heads) >= _MOST_HEADS:
            self.heads.clear()
        self.heads[head] = known

    def head(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """Status line and usual headers of a good answer, remade when the date has moved on."""
        if default_headers is not self.date_of:
            self.date_of = default_headers
            self._ok = STATUS_LINE[200] + header_lines(default_headers)
            self.ok_json = self._ok + b"content-type: %b\r\ncontent-length: " % JSON
        return self._ok

    def json_head(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """The head of a good JSON answer without further headers, up to its length."""
        self.head(default_headers)
        return self.ok_json


def undisturbed(work: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
    """Do work that makes millions of small objects; for the reader's thread, which is one.

    They would set off collections of all garbage there may be, again and again, for which every
    thread stands still: 1.5 seconds at a time for 800,000 rows of CSV.
    """
    gc.disable()
    try:
        return work(*given, **named)
    finally:
        gc.enable()


def header_lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are sent."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)
