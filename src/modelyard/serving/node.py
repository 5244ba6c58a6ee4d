"""A node follows the registry: what a route asks for is loaded, warmed up and swapped in."""

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, Protocol, TypeVar

from modelyard.core.errors import ModelyardError
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.exchange import LocalExchange

_T = TypeVar("_T")

_log = logging.getLogger(__name__)

_FIRST_RETRY_S: Final = 1.0
_LAST_RETRY_S: Final = 60.0


class Wanted(Protocol):
    """A route, as far as a node cares."""

    @property
    def model(self) -> str:
        """The model's name."""
        ...

    @property
    def number(self) -> int:
        """The version that calls go to."""
        ...


class RouteSource(Protocol):
    """Where routes are written: the registry."""

    def generation(self) -> int:
        """A number that grows with every change of a route. Cheap."""
        ...

    def routes(self) -> Sequence[Wanted]:
        """All routes."""
        ...


class Node:
    """Moves one process to what the registry asks for, from a thread of its own.

    Loading never happens on the event loop, and a version that fails to load never displaces one
    that works. A registry that cannot be reached changes nothing: what is served goes on.
    """

    def __init__(
        self,
        source: RouteSource,
        open_endpoint: Callable[[str, int], Endpoint],
        exchange: LocalExchange,
        *,
        poll_s: float,
    ) -> None:
        self._source = source
        self._open_endpoint = open_endpoint
        self._exchange = exchange
        self._poll_s = poll_s
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._ended = asyncio.Event()
        self._seen = -1
        self._retry_s: dict[tuple[str, int], float] = {}
        self._retry_at = float("inf")
        self._is_reachable = True

    async def start(self) -> None:
        """Follow the routes once, then keep following them until `stop`."""
        loop = asyncio.get_running_loop()
        synced: asyncio.Future[None] = loop.create_future()

        def done() -> None:
            self._exchange.mark_synced()
            if not synced.done():
                synced.set_result(None)

        def follow() -> None:
            try:
                self._step(loop)
                self._on_loop(loop, done)
                while not self._stop.wait(self._poll_s):
                    self._step(loop)
                loop.call_soon_threadsafe(self._ended.set)
            except RuntimeError:
                # A stopping server waits only so long for a load, and then closes the loop.
                if not loop.is_closed():
                    raise

        self._thread = threading.Thread(target=follow, name="modelyard node", daemon=True)
        self._thread.start()
        await synced

    async def stop(self, grace_s: float | None = None) -> None:
        """Follow no more; returns when the thread has ended, or after `grace_s` seconds.

        A load cannot be interrupted: one that hangs must not keep a server from stopping.
        """
        self._stop.set()
        if self._thread is None:
            return
        try:
            await asyncio.wait_for(self._ended.wait(), grace_s)
        except TimeoutError:
            _log.warning("a version is still being loaded; stopping without it")

    def _step(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            generation = self._source.generation()
            if generation == self._seen and time.monotonic() < self._retry_at:
                return
            routes = self._source.routes()
        except Exception as error:  # noqa: BLE001 - a database may raise anything, and we go on
            if self._is_reachable:
                _log.warning("the registry cannot be read; serving goes on as it is: %s", error)
            self._is_reachable = False
            return
        self._is_reachable = True
        self._follow(loop, routes)
        self._seen = generation

    def _follow(self, loop: asyncio.AbstractEventLoop, routes: Sequence[Wanted]) -> None:
        serving = self._on_loop(loop, self._exchange.serving)
        wanted = {route.model: route.number for route in routes}
        self._retry_at = float("inf")
        for model in serving.keys() | {model for model, _ in self._retry_s}:
            if model not in wanted:
                self._forget(model)
                self._on_loop(loop, partial(self._exchange.remove, model))
        for model, version in wanted.items():
            if self._stop.is_set():
                return
            if serving.get(model) == version:
                self._forget(model)
                self._on_loop(loop, partial(self._exchange.clear_failure, model))
            else:
                self._load(loop, model, version)

    def _load(self, loop: asyncio.AbstractEventLoop, model: str, version: int) -> None:
        try:
            endpoint = self._open_endpoint(model, version)
        except BaseException as error:  # noqa: BLE001 - loading runs other people's code
            if self._stop.is_set():
                return
            reason = error.message if isinstance(error, ModelyardError) else repr(error)
            _log.error("%s:%d cannot be served: %s", model, version, reason)
            self._plan_retry(model, version)
            self._on_loop(
                loop, lambda: self._exchange.report_failure(model, version, f"{reason:.500}")
            )
            return
        if self._stop.is_set():
            endpoint.retire()
            return
        self._forget(model)
        self._on_loop(loop, lambda: self._exchange.install(endpoint))
        _log.info("serving %s:%d (%s)", model, version, endpoint.platform)

    def _plan_retry(self, model: str, version: int) -> None:
        wait_s = min(self._retry_s.get((model, version), _FIRST_RETRY_S / 2) * 2, _LAST_RETRY_S)
        self._retry_s[model, version] = wait_s
        self._retry_at = min(self._retry_at, time.monotonic() + wait_s)

    def _forget(self, model: str) -> None:
        for key in [key for key in self._retry_s if key[0] == model]:
            del self._retry_s[key]

    def _on_loop(self, loop: asyncio.AbstractEventLoop, act: Callable[[], _T]) -> _T:
        """Do something on the loop's thread and wait for it."""
        result: concurrent.futures.Future[_T] = concurrent.futures.Future()

        def run() -> None:
            try:
                result.set_result(act())
            except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
                result.set_exception(error)

        loop.call_soon_threadsafe(run)
        return result.result()
