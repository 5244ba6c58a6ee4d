"""A node follows the registry: what a route asks for is loaded, warmed up and swapped in."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from modelyard.core.errors import ModelyardError
from modelyard.core.route import Options, Route
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.exchange import LocalExchange
from modelyard.serving.rollout import Pilot, RolloutStore

_log = logging.getLogger(__name__)

_FIRST_RETRY_S: Final = 1.0
_LAST_RETRY_S: Final = 60.0
_LOADERS: Final = 4
_OVERDUE_S: Final = 30.0
"""A load that takes longer no longer counts among the loaders, nor keeps a start waiting."""

OpenEndpoint = Callable[[str, int, Options], Endpoint]


class RouteSource(Protocol):
    """Where routes are written: the registry."""

    def generation(self) -> int:
        """A number that grows with every change of a route. Cheap."""
        ...

    def routes(self) -> Sequence[Route]:
        """All routes."""
        ...


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A version that a route asks for, as it asks for it."""

    model: str
    version: int
    options: Options

    def __str__(self) -> str:
        return f"{self.model}:{self.version}"


class Node:
    """Moves one process to what the registry asks for.

    One thread looks at the registry, a few others load, each one version; what they bring is taken
    in on the event loop, where all state lives. So nothing waits for a load that hangs, and a
    version that comes when its route has moved on is closed again. One that fails to load never
    displaces one that works. A registry that cannot be reached changes nothing.
    """

    def __init__(
        self,
        source: RouteSource,
        open_endpoint: OpenEndpoint,
        exchange: LocalExchange,
        *,
        poll_s: float,
        rollouts: RolloutStore | None = None,
    ) -> None:
        self._source = source
        self._open_endpoint = open_endpoint
        self._exchange = exchange
        self._poll_s = poll_s
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_reachable = True
        self._wanted: dict[_Wanted, None] = {}
        self._pending: dict[_Wanted, None] = {}
        self._loading: dict[_Wanted, float] = {}
        self._installed: dict[tuple[str, int], Options] = {}
        self._retry_s: dict[_Wanted, float] = {}
        self._first: set[_Wanted] | None = None
        self._synced = asyncio.Event()
        self._threads = 0
        self._idle = asyncio.Event()
        self._pilot = Pilot(rollouts, exchange) if rollouts is not None else None

    async def start(self) -> None:
        """Follow the routes once, then keep following them until `stop`.

        Returns when everything that was routed is loaded, has failed, or takes too long.
        """
        self._loop = asyncio.get_running_loop()
        self._threads += 1
        if self._pilot is not None:
            self._threads += 1
            self._pilot.start(self._loop, lambda: self._post(self._count_thread))
        threading.Thread(target=self._watch, name="modelyard node", daemon=True).start()
        await self._synced.wait()

    async def stop(self, grace_s: float | None = None) -> None:
        """Follow no more; returns when the threads have ended, or after `grace_s` seconds.

        A load cannot be interrupted: one that hangs must not keep a server from stopping.
        """
        self._stop.set()
        self._pending.clear()
        if self._pilot is not None:
            self._pilot.stop()
        self._check_idle()
        try:
            await asyncio.wait_for(self._idle.wait(), grace_s)
        except TimeoutError:
            _log.warning("the node is still loading or writing; stopping without it")

    def _watch(self) -> None:
        """Look at the registry again and again, in a thread of its own."""
        seen: int | None = None
        while not self._stop.is_set():
            try:
                generation = self._source.generation()
                if generation != seen:
                    routes = self._source.routes()
                    self._post(self._follow, routes)
                    seen = generation
                self._is_reachable = True
            except Exception as error:  # noqa: BLE001 - a database may raise anything
                if self._is_reachable:
                    _log.warning("the registry cannot be read; serving goes on as it is: %s", error)
                self._is_reachable = False
                if seen is None:
                    self._post(self._follow, ())
            self._stop.wait(self._poll_s)
        self._post(self._count_thread)

    def _post(self, act: Callable[..., object], *arguments: object) -> None:
        """Do something on the loop's thread, unless the loop is closed: then nobody is left."""
        assert self._loop is not None, "a node is started before it follows"  # noqa: S101
        try:
            self._loop.call_soon_threadsafe(act, *arguments)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _count_thread(self) -> None:
        self._threads -= 1
        self._check_idle()

    def _check_idle(self) -> None:
        if not self._threads and not self._loading:
            self._idle.set()

    def _follow(self, routes: Sequence[Route]) -> None:
        if self._stop.is_set():
            return
        self._exchange.follow(routes)
        if self._pilot is not None:
            self._pilot.wake()
        self._wanted = {
            _Wanted(route.model, version, route.options): None
            for route in routes
            for version in route.versions
        }
        self._installed = {
            key: options
            for key, options in self._installed.items()
            if self._exchange.endpoint(*key) is not None
        }
        self._retry_s = {key: wait for key, wait in self._retry_s.items() if key in self._wanted}
        self._pending = {
            key: None for key in self._wanted if key in self._pending or self._is_missing(key)
        }
        for key in self._wanted:
            if self._installed.get((key.model, key.version)) == key.options:
                self._exchange.clear_failure(key.model, key.version)
        if self._first is None:
            self._first = set(self._pending)
        self._load_pending()

    def _is_missing(self, key: _Wanted) -> bool:
        return (
            self._installed.get((key.model, key.version)) != key.options
            and key not in self._loading
            and key not in self._retry_s
        )

    def _load_pending(self) -> None:
        if self._stop.is_set():
            return
        now = time.monotonic()
        self._drop_overdue(now)
        young = sum(now - started < _OVERDUE_S for started in self._loading.values())
        while self._pending and young < _LOADERS:
            key = next(iter(self._pending))
            del self._pending[key]
            self._loading[key] = now
            young += 1
            threading.Thread(
                target=self._load, args=(key,), name=f"modelyard load {key}", daemon=True
            ).start()
            asyncio.get_running_loop().call_later(_OVERDUE_S, self._load_pending)
        if self._first is not None and not self._first:
            self._exchange.mark_synced()
            self._synced.set()

    def _drop_overdue(self, now: float) -> None:
        for key, started in self._loading.items():
            if now - started >= _OVERDUE_S and key in self._wanted:
                self._fail(key, f"it is being loaded for {now - started:.0f} s now")

    def _load(self, key: _Wanted) -> None:
        """Load one version, in a thread of its own."""
        try:
            endpoint = self._open_endpoint(key.model, key.version, key.options)
        except BaseException as error:  # noqa: BLE001 - loading runs other people's code
            self._post(self._take_failure, key, error)
        else:
            self._post(self._take, key, endpoint)

    def _take(self, key: _Wanted, endpoint: Endpoint) -> None:
        del self._loading[key]
        if key not in self._wanted or self._stop.is_set():
            endpoint.retire()
        else:
            self._retry_s.pop(key, None)
            self._exchange.install(endpoint)
            self._installed[key.model, key.version] = key.options
            _log.info("serving %s (%s)", key, endpoint.platform)
        self._end(key)

    def _take_failure(self, key: _Wanted, error: BaseException) -> None:
        del self._loading[key]
        if key in self._wanted and not self._stop.is_set():
            reason = error.message if isinstance(error, ModelyardError) else repr(error)
            _log.error("%s cannot be served: %s", key, reason)
            self._fail(key, f"{reason:.500}")
            wait_s = min(self._retry_s.get(key, _FIRST_RETRY_S / 2) * 2, _LAST_RETRY_S)
            self._retry_s[key] = wait_s
            asyncio.get_running_loop().call_later(wait_s, self._retry, key)
        self._end(key)

    def _fail(self, key: _Wanted, reason: str) -> None:
        self._exchange.report_failure(key.model, key.version, reason)
        if self._first is not None:
            self._first.discard(key)

    def _retry(self, key: _Wanted) -> None:
        if key in self._retry_s and key not in self._loading:
            self._pending[key] = None
            self._load_pending()

    def _end(self, key: _Wanted) -> None:
        if self._first is not None:
            self._first.discard(key)
        if self._stop.is_set():
            self._check_idle()
        else:
            self._load_pending()
