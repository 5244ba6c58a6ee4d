"""A worker without models: `python stub_worker.py FOLDER CHANNEL HANDOVER ENDED`.

Answers each line on a connection with its process id. The file `FOLDER/order` says what it does
instead: `crash` at once, `refuse` to start, `never` get ready, or `hang` when it is ready.
"""

import asyncio
import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from modelyard.serving.supervision.channel import Channel
from modelyard.serving.supervision.ended import EndedCount
from modelyard.serving.supervision.handover import Outbox, take


class Line(asyncio.Protocol):
    def __init__(self, stub: "Stub") -> None:
        self.stub = stub

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.stub.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"%d\n" % os.getpid() * data.count(b"\n"))

    def connection_lost(self, error: Exception | None) -> None:
        self.stub.connections.discard(self)
        self.stub.ended.add(0)


class Stub:
    def __init__(self, channel: int, handover: int, ended: int) -> None:
        self.control = socket.socket(fileno=channel)
        self.handover = socket.socket(fileno=handover)
        self.ended = EndedCount(ended)
        self.connections: set[Line] = set()
        self.stopping = asyncio.Event()
        self.hands_over = False

    async def run(self, order: str) -> None:
        if order == "crash":
            os._exit(3)
        handlers = {"ping": self.ping, "drain": self.drain}
        self.channel = await Channel.over(self.control, handlers, self.stopping.set)
        if order == "refuse":
            told = {"kind": "unavailable", "code": "stubborn", "message": "not today"}
            await self.channel.request("failed", {**told, "field": None})
            return
        asyncio.get_running_loop().add_reader(self.handover, self.take)
        await self.channel.request("listening")
        if order != "never":
            await self.channel.request("ready")
        if order == "hang":
            time.sleep(3600)
        await self.stopping.wait()
        await self.end()

    async def end(self) -> None:
        asyncio.get_running_loop().remove_reader(self.handover)
        outbox = Outbox(self.handover, 0)
        for line in list(self.connections):
            if self.hands_over:
                outbox.put(line.transport.get_extra_info("socket").dup())
            line.transport.abort()
        await outbox.emptied()

    def take(self) -> None:
        _, connections = take(self.handover, socket.AF_INET) or (0, [])
        for connection in connections:
            connection.setblocking(False)
            loop = asyncio.get_running_loop()
            self.adopting = loop.create_task(
                loop.connect_accepted_socket(lambda: Line(self), connection)
            )

    async def ping(self, payload: Any) -> None:
        return None

    async def drain(self, payload: Any) -> None:
        self.hands_over = payload["hand_over"]
        self.stopping.set()


if __name__ == "__main__":
    folder, *descriptors = sys.argv[1:]
    file = Path(folder) / "order"
    asyncio.run(Stub(*map(int, descriptors)).run(file.read_text() if file.exists() else ""))
