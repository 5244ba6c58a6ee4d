"""The most that Python gives: a protocol on httptools, orjson, one batch a turn of the loop.

No routes, no checks, no versions, no limits. `bare_class.py PORT PROCESSES`: processes that accept
on one port.
"""

import asyncio
import os
import sys
from typing import Any

import httptools
import numpy as np
import orjson
import uvloop
from served import Served

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "


class Batches:
    """What arrived in this turn; answered at its end."""

    def __init__(self, served: Served, loop: asyncio.AbstractEventLoop) -> None:
        self._served = served
        self._loop = loop
        self._waiting: list[tuple[Any, dict[str, Any]]] = []

    def add(self, write: Any, row: dict[str, Any]) -> None:
        if not self._waiting:
            self._loop.call_soon(self._answer)
        self._waiting.append((write, row))

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        arrays = {
            name: np.array([row[name] for _, row in waiting], dtype)
            for name, dtype in self._served.inputs.items()
        }
        outputs = list(self._served.run(arrays).items())
        for index, (write, _) in enumerate(waiting):
            answer = {name: array[index] for name, array in outputs}
            body = orjson.dumps(answer, default=int, option=orjson.OPT_SERIALIZE_NUMPY)
            write(b"%b%d\r\n\r\n%b" % (_HEAD, len(body), body))


class Protocol(asyncio.Protocol):
    """Reads bodies; everything else of the request is ignored."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._write = transport.write
        self._parser = httptools.HttpRequestParser(self)
        self._body = b""

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        body, self._body = self._body, b""
        self._batches.add(self._write, orjson.loads(body))


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    batches = Batches(Served(), loop)
    server = await loop.create_server(lambda: Protocol(batches), "127.0.0.1", port, reuse_port=True)
    await server.serve_forever()


if __name__ == "__main__":
    port, processes = map(int, sys.argv[1:])
    for _ in range(processes - 1):
        if os.fork() == 0:
            break
    uvloop.run(serve(port))
