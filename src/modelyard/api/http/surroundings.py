"""What all connections of one server share."""

from concurrent.futures import ThreadPoolExecutor

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from modelyard.api.http.doors import Doors
from modelyard.core.ports import Exchange


class Surroundings:
    """The exchange and its doors, the reader of large bodies, and the head of a good answer."""

    def __init__(self, exchange: Exchange, *, max_body_bytes: int) -> None:
        self.exchange = exchange
        self.doors = Doors(exchange)
        self.max_body_bytes = max_body_bytes
        # One thread: large requests wait for each other, and the loop for a time slice at most.
        self.reader = ThreadPoolExecutor(1, "modelyard reader")
        self._date_of: object = None
        self._ok = b""

    def head(self, default_headers: list[tuple[bytes, bytes]]) -> bytes:
        """Status line and usual headers of a good answer, remade when the date has moved on."""
        if default_headers is not self._date_of:
            self._date_of = default_headers
            self._ok = STATUS_LINE[200] + header_lines(default_headers)
        return self._ok


def header_lines(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Headers as they are sent."""
    return b"".join(b"%b: %b\r\n" % header for header in headers)
