"""The smallest HTTP server: a protocol on httptools that always gives the same answer.

No model, no routing, no decoding: what is left is the price of Python's event loop and of the
kernel, below which no server of this kind can come. `python echo.py PORT`.
"""

import asyncio
import sys

import httptools
import uvloop

_BODY = b'{"label":1,"probabilities":[0.009999999776482582,0.9900000095367432]}'
_ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
    len(_BODY),
    _BODY,
)


class Echo(asyncio.Protocol):
    """Answers as soon as a request is complete."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self.write = transport.write
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        self.write(_ANSWER)


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
