"""The smallest HTTP server: a protocol on httptools that always gives the same answer.

No model, no routing, no decoding: what is left is the price of Python's event loop and of the
kernel, below which no server of this kind can come. `python http_echo.py PORT ANSWER`; ANSWER is
the file that holds the answer.
"""

import asyncio
import sys
from pathlib import Path

import httptools
import uvloop

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"


class Echo(asyncio.Protocol):
    """Answers as soon as a request is complete."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.write = transport.write
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.write(self._answer)


async def serve(port: int, body: bytes) -> None:
    answer = _HEAD % (len(body), body)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Echo(answer), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), Path(sys.argv[2]).read_bytes()))
