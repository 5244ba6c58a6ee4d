"""Callers that never try again: what is lost on them is lost."""

import asyncio
import json
import threading
from collections import Counter
from types import TracebackType
from typing import Self

PATH = "/v2/models/{model}/infer"


class Callers:
    """Connections that each ask as soon as they have been answered, in a thread of their own.

    A connection that is closed while a request is unanswered is `lost`; one that was told that it
    will be closed is opened again. `versions` counts good answers by the version that gave them.
    """

    def __init__(self, host: str, port: int, model: str, connections: int) -> None:
        self.versions: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.lost = 0
        self.unreachable = 0
        self._address = host, port
        self._connections = connections
        body = json.dumps(
            {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
        )
        self._request = (
            f"POST {PATH.format(model=model)} HTTP/1.1\r\nhost: test\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
        ).encode()
        self._done = threading.Event()
        self._answered = threading.Condition()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._call()))

    @property
    def answered(self) -> int:
        return self.versions.total()

    def __enter__(self) -> Self:
        self._thread.start()
        self.wait_for(10 * self._connections)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def wait_for(self, more: int) -> None:
        """Until so many more good answers have come."""
        wanted = self.answered + more
        with self._answered:
            assert self._answered.wait_for(lambda: self.answered >= wanted, timeout=30), vars(self)

    async def _call(self) -> None:
        await asyncio.gather(*(self._keep_asking() for _ in range(self._connections)))

    async def _keep_asking(self) -> None:
        while not self._done.is_set():
            try:
                reader, writer = await asyncio.open_connection(*self._address)
            except OSError:
                self.unreachable += 1
                await asyncio.sleep(0.01)
                continue
            try:
                while not self._done.is_set() and await self._ask(reader, writer):
                    pass
            except (OSError, asyncio.IncompleteReadError):
                self.lost += 1
            finally:
                writer.close()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; whether the connection stays."""
        writer.write(self._request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        if head.startswith(b"http/1.1 200 "):
            with self._answered:
                self.versions[json.loads(body)["model_version"]] += 1
                self._answered.notify_all()
        else:
            self.failed[body.decode()] += 1
        return b"connection: close" not in head
