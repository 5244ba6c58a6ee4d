"""A worker process of `modelyard serve`: a server that is given its connections.

    python -m modelyard.wiring.worker CHANNEL HANDOVER ENDED

The arguments are the descriptors of its channel to the supervisor, of the socket that connections
come by and go by, and of the count of those that have ended.
"""

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from typing import Final

import msgspec

from modelyard.core.config import Config, parsed_config
from modelyard.core.errors import ModelyardError
from modelyard.registry.registry import Registry
from modelyard.serving.operations import LONGEST_WAIT_S, Totals, settled
from modelyard.serving.places import RelayedPlaces
from modelyard.serving.report import Report
from modelyard.serving.supervision.channel import Channel, Payload
from modelyard.serving.supervision.ended import EndedCount
from modelyard.serving.supervision.handover import Outbox, take
from modelyard.serving.supervision.worker import Descriptors
from modelyard.wiring.addresses import Door
from modelyard.wiring.logs import log_to_stderr
from modelyard.wiring.machine import raise_descriptor_limit
from modelyard.wiring.registry import make_first_key
from modelyard.wiring.remembered import open_for_serving
from modelyard.wiring.server import Server, run_on_fastest_loop, settle_memory
from modelyard.wiring.supervisor import Welcome
from modelyard.wiring.waiting import unless

_log = logging.getLogger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_LAST_WORDS_S: Final = 1.0
_MARGIN_S: Final = 2.0


class _Order(msgspec.Struct, frozen=True):
    """What the supervisor wants of a worker that is to go."""

    hand_over: bool = False


class RelayedSiblings:
    """All workers of the node, asked through the supervisor."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    async def totals(self) -> Totals:
        """What all have counted, those that are gone included."""
        return {
            (model, number): msgspec.convert(report, Report)
            for model, number, report in await self._channel.request("statistics")
        }

    async def settle(self, model: str, generation: int | None) -> Sequence[str]:
        """Wait for all of them."""
        payload = {"model": model, "generation": generation}
        reasons: list[str] = await self._channel.request("settle", payload)
        return reasons


class _Shift:
    """A worker's life: hello, serve, drain, goodbye."""

    def __init__(self, descriptors: Descriptors) -> None:
        self._handover = socket.socket(fileno=descriptors.handover)
        self._handover.setblocking(False)
        self._control = socket.socket(fileno=descriptors.channel)
        self._ended = EndedCount(descriptors.ended)
        self._stopping = asyncio.Event()
        self._order = _Order()
        self._channel: Channel
        self._family = socket.AF_INET
        self._server: Server

    async def run(self) -> None:
        """From hello to the last settled call."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._leave)
        handlers = {
            "ping": _answer_ping,
            "drain": self._drain,
            "report": self._report,
            "settle": self._settle,
        }
        self._channel = await Channel.over(self._control, handlers, self._stopping.set)
        welcome = msgspec.convert(await self._channel.request("hello"), Welcome)
        log_to_stderr(f"worker {welcome.slot}: ")
        config = parsed_config(welcome.config)
        self._family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
        try:
            with open_for_serving(config) as registry:
                await self._make_first_key(config, registry)
                self._server = Server(
                    config,
                    registry,
                    is_worker=True,
                    on_closed=self._ended.add,
                    places=RelayedPlaces(self._channel.ask),
                    workers=config.workers,
                    siblings=RelayedSiblings(self._channel),
                )
                await self._serve(config)
        except ModelyardError as error:
            told = {"kind": error.kind, "code": error.code, "message": error.message}
            await self._say("failed", {**told, "field": error.field})
        self._channel.close()

    async def _make_first_key(self, config: Config, registry: Registry) -> None:
        """Where nobody can administrate yet, somebody can from now on, who is told the key."""
        made = None if config.open else make_first_key(registry)
        if made is not None:
            await self._channel.request("first_key", made.text)

    async def _serve(self, config: Config) -> None:
        if await unless(self._stopping, self._server.start(self._listen)) is None:
            return
        await self._say("ready")
        settle_memory()
        await self._stopping.wait()
        _die_after(config.drain_s + _MARGIN_S)
        self._take_connections()
        asyncio.get_running_loop().remove_reader(self._handover)
        outbox = Outbox(self._handover, Door.HTTP)
        await self._server.stop(outbox.put if self._order.hand_over else None)
        await outbox.emptied()
        await self._say("departed", await self._report(None))

    def _listen(self) -> None:
        """Take connections from now on."""
        asyncio.get_running_loop().add_reader(self._handover, self._take_connections)
        self._tell("listening")

    def _take_connections(self) -> None:
        while (taken := take(self._handover, self._family)) is not None:
            door, connections = taken
            if not connections:
                return
            server = self._server.http if door == Door.HTTP else self._server.grpc
            for connection in connections:
                server.adopt(connection)
        asyncio.get_running_loop().remove_reader(self._handover)

    def _leave(self) -> None:
        """Somebody ended this worker by hand: no more connections, and a good end."""
        self._tell("leaving")
        self._stopping.set()

    async def _drain(self, payload: Payload) -> None:
        self._order = msgspec.convert(payload, _Order)
        self._stopping.set()

    async def _report(self, payload: Payload) -> Payload:
        return msgspec.to_builtins(self._server.report())

    async def _settle(self, payload: Payload) -> Payload:
        return await settled(
            self._server.exchange,
            payload["model"],
            payload["generation"],
            payload.get("patience_s", LONGEST_WAIT_S),
        )

    async def _say(self, kind: str, payload: Payload = None) -> None:
        """Tell the supervisor, if it is still there."""
        with contextlib.suppress(ModelyardError, TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._channel.request(kind, payload)

    def _tell(self, kind: str) -> None:
        self._saying = asyncio.get_running_loop().create_task(self._say(kind))


async def _answer_ping(payload: Payload) -> None:
    return None


def _die_with_supervisor() -> None:
    """Where the kernel can say it: a signal at the supervisor's death.

    The channel says it too; this is for a worker whose loop does not listen.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _die_after(seconds: float) -> None:
    """End this process in any case: a thread may be in native code that never returns."""

    def end() -> None:
        _log.error("not everything has ended in time; ending all the same")
        os._exit(1)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()


def main() -> None:
    """Be a worker until the supervisor, or its end, says otherwise."""
    # A Ctrl-C at the terminal, or its end, reaches the whole group: the supervisor decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _die_with_supervisor()
    raise_descriptor_limit()
    run_on_fastest_loop(_Shift(Descriptors(*map(int, sys.argv[1:]))).run())
    # A lane may hang in native code, whose library would abort if it were torn down under it.
    sys.stderr.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
