"""Where a version runs: in the worker that asks, or in a process that all workers share.

Imports nothing heavy: a supervisor owns the processes, and never opens a model.
"""

import asyncio
import contextlib
import itertools
import logging
import shutil
import sys
import tempfile
import threading
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from modelyard.core.errors import ModelyardError
from modelyard.serving.process.child import Command, ModelProcess
from modelyard.serving.process.environments import Environments

_log = logging.getLogger(__name__)

_STOP_GRACE_S: Final = 10.0


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """Which version wants a place.

    `key` is equal for who may share a process; `job` tells the process what to serve. A version
    that `must` be apart gets a process; another one only when `cost_us`, what one row costs, says
    so: without it the answer is to load it here and measure, unless somebody has done that.
    """

    name: str
    key: str
    job: bytes
    packages: tuple[str, ...] = ()
    must: bool = False
    cost_us: float | None = None

    def measured(self, cost_us: float | None) -> "Question":
        """The same question, by who has found out what a row costs."""
        return msgspec.structs.replace(self, cost_us=cost_us)


class Here(msgspec.Struct, frozen=True, tag="here"):
    """In the process that asks."""


class There(msgspec.Struct, frozen=True, tag="there"):
    """In a process that listens on the Unix socket `path`; leave it by `lease`."""

    path: str
    lease: int


Placement = Here | There


class Places(Protocol):
    """Finds places. Used from loading threads: both methods may block."""

    def find(self, question: Question) -> Placement:
        """Where the version runs; raises what loading it there raised."""
        ...

    def leave(self, lease: int) -> None:
        """A place is not needed any more; leaving one twice is harmless."""
        ...


class PlaceReport(msgspec.Struct, frozen=True, kw_only=True):
    """A model process, for an operator to see."""

    name: str
    pid: int | None
    restarts: int
    users: int
    packages: dict[str, str] = {}


class _Place:
    def __init__(self, process: ModelProcess) -> None:
        self.process = process
        self.holders: dict[int, int] = {}


class LocalPlaces:
    """Owns the model processes of a node. Safe to use from many threads.

    A process ends when the last who found it has left it; one that hangs for `hang_s` is started
    anew. Environments of packages that bundles ask
    for are kept in the folder `environments`.
    """

    def __init__(
        self,
        command: Command,
        environments: Path,
        *,
        process_us: float,
        hang_s: float = 30.0,
    ) -> None:
        self._command = command
        self._hang_s = hang_s
        self._environments = Environments(environments)
        self._process_us = process_us
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._places: dict[str, _Place] = {}
        self._verdicts: dict[str, bool] = {}
        self._stopping: set[threading.Thread] = set()
        self._folder: Path | None = None

    def find(self, question: Question, holder: int = 0) -> Placement:
        """A process for the question, started if need be; returns when it is loaded."""
        with self._lock:
            place = self._places.get(question.key)
            if place is None:
                if not question.must and not self._is_heavy(question):
                    return Here()
                place = self._places[question.key] = self._start(question)
            lease = next(self._numbers)
            place.holders[lease] = holder
        try:
            place.process.wait()
        except BaseException:
            self._drop(question.key, place)
            raise
        return There(str(place.process.path), lease)

    def leave(self, lease: int) -> None:
        """Give up a place; nobody else in it means its process ends, beside the caller."""
        with self._lock:
            for key, place in self._places.items():
                if place.holders.pop(lease, None) is not None:
                    self._stop_if_empty(key, place)
                    return

    def leave_all(self, holder: int) -> None:
        """Give up every place that a holder has: it has died."""
        with self._lock:
            for key, place in list(self._places.items()):
                for lease in [each for each, who in place.holders.items() if who == holder]:
                    del place.holders[lease]
                self._stop_if_empty(key, place)

    def report(self) -> list[PlaceReport]:
        """The processes there are."""
        with self._lock:
            return [
                PlaceReport(
                    name=place.process.name,
                    pid=place.process.pid,
                    restarts=place.process.restarts,
                    users=len(place.holders),
                    packages=place.process.packages,
                )
                for place in self._places.values()
            ]

    def close(self) -> None:
        """End every process; returns when they have ended."""
        with self._lock:
            places, self._places = self._places, {}
            for place in places.values():
                self._stop(place)
            stopping = list(self._stopping)
        for thread in stopping:
            thread.join()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _is_heavy(self, question: Question) -> bool:
        """What the first who measured found holds for all: workers must not disagree."""
        verdict = self._verdicts.get(question.key)
        if verdict is None and question.cost_us is not None:
            verdict = self._verdicts[question.key] = question.cost_us > self._process_us
        return bool(verdict)

    def _start(self, question: Question) -> _Place:
        if self._folder is None:
            # A socket's path may have some hundred bytes, and a home may lie deeper.
            self._folder = Path(tempfile.mkdtemp(prefix="modelyard-"))
        path = self._folder / f"{next(self._numbers)}.sock"
        _log.info("%s gets a process of its own", question.name)

        def find_python() -> str:
            if not question.packages:
                return sys.executable
            return self._environments.python(question.packages)

        return _Place(
            ModelProcess(
                question.name,
                question.job,
                self._command,
                find_python,
                path,
                hang_s=self._hang_s,
            )
        )

    def _drop(self, key: str, place: _Place) -> None:
        with self._lock:
            if self._places.get(key) is place:
                del self._places[key]
                self._stop(place)

    def _stop_if_empty(self, key: str, place: _Place) -> None:
        if not place.holders:
            del self._places[key]
            self._stop(place)

    def _stop(self, place: _Place) -> None:
        def stop() -> None:
            place.process.stop(_STOP_GRACE_S)
            with self._lock:
                self._stopping.discard(thread)

        thread = threading.Thread(target=stop, name=f"stop {place.process.name}", daemon=True)
        self._stopping.add(thread)
        thread.start()


class RelayedPlaces:
    """A worker's way to the places that its supervisor owns: each question is asked there."""

    def __init__(self, ask: Callable[[str, Any], Any]) -> None:
        self._ask = ask

    def find(self, question: Question) -> Placement:
        """The supervisor's answer."""
        return _PLACEMENT.decode(self._ask("place", _encode(question)))

    def leave(self, lease: int) -> None:
        """Tell the supervisor; one that has gone, or buries this worker, needs not be told."""
        with contextlib.suppress(ModelyardError):
            self._ask("leave", lease)


_encode: Final = msgspec.msgpack.Encoder().encode
_QUESTION: Final = msgspec.msgpack.Decoder(Question)
_PLACEMENT: Final[msgspec.msgpack.Decoder[Placement]] = msgspec.msgpack.Decoder(Placement)

Handler = Callable[[int, Any], Awaitable[Any]]


def place_handlers(places: LocalPlaces) -> Mapping[str, Handler]:
    """What a supervisor answers to its workers' `RelayedPlaces`, by kind of question."""

    async def place(worker: int, payload: Any) -> Any:
        question = _QUESTION.decode(payload)
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Placement] = loop.create_future()

        def settle(placement: Placement | None, error: BaseException | None) -> None:
            if found.done():
                # The worker died while it waited: nobody will leave what was found for it.
                if isinstance(placement, There):
                    places.leave(placement.lease)
            elif error is not None:
                found.set_exception(error)
            elif placement is not None:
                found.set_result(placement)

        def find() -> None:
            placement, error = None, None
            try:
                placement = places.find(question, worker)
            except BaseException as raised:  # noqa: BLE001 - carried to who waits
                error = raised
            # A loop that was closed meanwhile has nobody left to tell.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(settle, placement, error)

        # A thread of its own: a load may hang for ever, and a pool's threads are few.
        threading.Thread(target=find, name=f"place {question.name}", daemon=True).start()
        return _encode(await found)

    async def leave(worker: int, payload: Any) -> None:
        places.leave(payload)

    return {"place": place, "leave": leave}
