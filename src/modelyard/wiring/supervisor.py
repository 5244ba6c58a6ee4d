"""`modelyard serve`: a supervisor in this process, and workers in their own.

Imports nothing of what workers need: no numpy, no registry, no protocol.
"""

import asyncio
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from modelyard.api.addresses import bind_grpc, bind_http
from modelyard.core.config import Config, plain_config
from modelyard.core.errors import ModelyardError
from modelyard.core.payloads import merge_captures
from modelyard.core.usage import merge_spools
from modelyard.serving.places import place_handlers
from modelyard.serving.route_report import merge_routes
from modelyard.serving.supervision.channel import Payload
from modelyard.serving.supervision.desk import Desk
from modelyard.serving.supervision.overview import (
    Ledger,
    Overview,
    ProcessLine,
    WorkerLine,
    WorkerReport,
    endpoint_lines,
    problems,
)
from modelyard.serving.supervision.supervisor import Policy, Supervisor
from modelyard.serving.supervision.worker import Descriptors, WorkerId
from modelyard.wiring.addresses import Addresses
from modelyard.wiring.machine import has_terminal, pss_bytes, raise_descriptor_limit, usable_cores
from modelyard.wiring.model_process import local_places
from modelyard.wiring.waiting import unless

_log = logging.getLogger(__name__)

_NOBODY: Final = 0
"""The id of no worker: who asks at the desk is none."""
_SAMPLE_S: Final = 5.0
_REPORT_S: Final = 5.0
_WORKER: Final = "modelyard.wiring.worker"


class Welcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told first: its slot, and the configuration with its ports settled."""

    slot: int
    config: dict[str, Any]


class Watch:
    """A supervisor with what is Modelyard's own about it: configuration, reports, addresses."""

    def __init__(
        self,
        config: Config,
        read_config: Callable[[], Config],
        on_first_key: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._config = config
        self._on_first_key = on_first_key
        self._read_config = read_config
        self._started_s = time.monotonic()
        self._ledger = Ledger(self._started_s)
        http = bind_http(config.host, config.port)
        try:
            grpc = bind_grpc(config.host, config.grpc_port)
        except ModelyardError:
            http.close()
            raise
        self.addresses = Addresses(
            config.host,
            http.getsockname()[1],
            grpc.getsockname()[1],
            is_tls=bool(config.tls_certificate),
        )
        self._places = local_places(config)
        self._supervisor = Supervisor(
            [http, grpc],
            _command,
            workers=config.workers or usable_cores(),
            policy=Policy(drain_s=config.drain_s, hang_s=config.hang_s),
            handlers={
                "hello": self._welcome,
                "first_key": self._take_first_key,
                "departed": self._take_last_words,
                "statistics": self._statistics,
                "settle": self._settle,
                **place_handlers(self._places),
            },
            on_ended=self._bury,
        )
        self._desk = Desk(
            config.home, {"overview": self._overview, "settle": partial(self._settle, _NOBODY)}
        )
        self._sampling: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the workers; returns when all are ready. Raises what one refused to start with."""
        await self._supervisor.start()
        self._sampling = asyncio.create_task(self._sample())
        await self._desk.open()

    async def replace(self) -> None:
        """Workers of the code and the settings as they are now, for those that run."""
        try:
            config = self._read_config()
        except ModelyardError as error:
            _log.error("the settings cannot be read, so everything stays: %s", error.message)
            return
        _log.info("replacing the workers, one after the other")
        self._config = config
        await self._supervisor.replace()

    async def stop(self) -> None:
        """Accept no more, finish, and end every worker and every model process."""
        if self._sampling is not None:
            self._sampling.cancel()
        await self._supervisor.stop()
        self._desk.close()
        await asyncio.to_thread(self._places.close)

    def quit(self) -> None:
        """End every worker at once, whatever it holds."""
        self._supervisor.kill()

    def _bury(self, worker: WorkerId) -> None:
        self._ledger.bury(worker)
        self._places.leave_all(worker)

    async def _welcome(self, worker: WorkerId, payload: Payload) -> Payload:
        """Who a worker is, and its settings; the ports are those that are bound."""
        settled = {
            **plain_config(self._config),
            "host": self.addresses.host,
            "port": self.addresses.port,
            "grpc_port": self.addresses.grpc_port,
            "workers": len(self._supervisor.slots),
        }
        slot = self._supervisor.worker(worker).slot
        return msgspec.to_builtins(Welcome(slot=slot, config=settled))

    async def _take_first_key(self, worker: WorkerId, payload: Payload) -> None:
        self._on_first_key(payload)

    async def _take_last_words(self, worker: WorkerId, payload: Payload) -> None:
        self._ledger.note(worker, msgspec.convert(payload, WorkerReport))

    async def _statistics(self, worker: WorkerId, payload: Payload) -> Payload:
        """What all workers have counted, by model and version."""
        await self._gather()
        return [
            (model, version, msgspec.to_builtins(total))
            for (model, version), total in sorted(self._ledger.totals().items())
        ]

    async def _settle(self, worker: WorkerId, payload: Payload) -> Payload:
        """Why some workers do not answer, when all have followed a model's route."""
        answers = await self._supervisor.ask_all("settle", payload, timeout_s=None)
        return [reason for reason in answers.values() if reason]

    async def _gather(self) -> None:
        for worker, report in (
            await self._supervisor.ask_all("report", timeout_s=_REPORT_S)
        ).items():
            self._ledger.note(worker, msgspec.convert(report, WorkerReport))

    async def _sample(self) -> None:
        """Look every few seconds: for rates, and for the counts of those that die."""
        while True:
            await self._gather()
            self._ledger.sample(time.monotonic())
            await asyncio.sleep(_SAMPLE_S)

    async def _overview(self, payload: Payload) -> Payload:
        await self._gather()
        return msgspec.to_builtins(await asyncio.to_thread(self._look))

    def _look(self) -> Overview:
        now_s = time.monotonic()
        reports = self._ledger.reports
        addresses = self.addresses
        return Overview(
            pid=os.getpid(),
            url=addresses.url,
            grpc_address=f"{addresses.host}:{addresses.grpc_port}",
            home=str(self._config.home),
            age_s=now_s - self._started_s,
            pss_bytes=pss_bytes(os.getpid()),
            workers=self._worker_lines(),
            endpoints=endpoint_lines(self._ledger, now_s),
            routes=merge_routes(report.routes for report in reports),
            usage=merge_spools(report.usage for report in reports),
            payloads=merge_captures(report.payloads for report in reports),
            problems=problems(reports),
            processes=[
                ProcessLine(place=each, pss_bytes=pss_bytes(each.pid) if each.pid else None)
                for each in self._places.report()
            ],
        )

    def _worker_lines(self) -> list[WorkerLine]:
        restarts = {slot.number: slot.restarts for slot in self._supervisor.slots}
        return [
            WorkerLine(
                slot=worker.slot,
                pid=worker.pid,
                state=worker.state,
                age_s=worker.age_s,
                restarts=restarts[worker.slot],
                connections=worker.connections,
                pss_bytes=pss_bytes(worker.pid),
            )
            for worker in sorted(self._supervisor.workers, key=lambda each: (each.slot, each.id))
        ]


def _command(descriptors: Descriptors) -> Sequence[str]:
    # -P: the folder that a server was started in is no place to import code from.
    return [sys.executable, "-P", "-m", _WORKER, *map(str, descriptors)]


async def supervise_until_signalled(
    config: Config,
    read_config: Callable[[], Config],
    on_started: Callable[[Addresses], None],
    on_first_key: Callable[[str], None] = lambda _: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second one ends at once.

    SIGHUP replaces the workers by such of the present code and settings, unless it says that the
    terminal is gone: then it is as SIGTERM. `on_first_key` hears the first administrator's key,
    where this start made it.
    """
    watch = Watch(config, read_config, on_first_key)
    loop = asyncio.get_running_loop()
    started, stopping = asyncio.Event(), asyncio.Event()
    replacing: set[asyncio.Task[None]] = set()

    def stop() -> None:
        if stopping.is_set():
            watch.quit()
        stopping.set()

    had_terminal = has_terminal()

    def replace() -> None:
        if had_terminal and not has_terminal():
            # Nobody asked for new workers: the window was closed.
            stop()
            return
        if not started.is_set():
            # They are new.
            return
        task = loop.create_task(watch.replace())
        replacing.add(task)
        task.add_done_callback(replacing.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, replace)
    try:
        await unless(stopping, watch.start())
        if not stopping.is_set():
            started.set()
            on_started(watch.addresses)
            await stopping.wait()
    finally:
        await watch.stop()


def run_supervisor(
    config: Config,
    read_config: Callable[[], Config],
    on_started: Callable[[Addresses], None],
    on_first_key: Callable[[str], None] = lambda _: None,
) -> None:
    """Run `supervise_until_signalled` to its end."""
    raise_descriptor_limit()
    asyncio.run(supervise_until_signalled(config, read_config, on_started, on_first_key))
