"""Moves progressive roll-outs: every worker reports what it counts, and one of them decides."""

import asyncio
import concurrent.futures
import datetime
import logging
import os
import secrets
import socket
import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Final, Protocol

from modelyard.core.rollout import Figures, Reading, Rollout, Standing
from modelyard.serving.exchange import LocalExchange
from modelyard.serving.judging import judge
from modelyard.serving.report import Report
from modelyard.serving.route_report import ShadowCounts

_log = logging.getLogger(__name__)

_TICK_S: Final = 1.0
_LEASE_S: Final = 5.0
_OVERLOAD: Final = ("queue_full", "objective_missed", "model_process_died")
"""Refusals that are the version's fault, by code; those of a gate are the caller's."""

Counted = Mapping[int, tuple[Mapping[int, Figures], str]]
"""By roll-out: figures by version, and why the candidate cannot be served here, if so."""


class RolloutStore(Protocol):
    """Where roll-outs are written: the registry's `rollouts`."""

    def running(self) -> Sequence[Rollout]:
        """Those that are under way."""
        ...

    def report(self, number: int, worker: str, figures: Mapping[int, Figures]) -> None:
        """Write what a worker has counted of each version since it first saw the roll-out."""
        ...

    def lead(self, number: int, worker: str, lease_s: float) -> Standing | None:
        """Take or renew the lead, and see how things stand; None where somebody else has it."""
        ...

    def wait(self, number: int, worker: str, reason: str) -> None:
        """Say what the step waits for."""
        ...

    def move(self, number: int, worker: str, step: int, readings: Sequence[Reading]) -> bool:
        """Go from that step to the next; False where the lead or the step has gone."""
        ...

    def break_off(self, number: int, worker: str, readings: Sequence[Reading], reason: str) -> bool:
        """Roll back to where it began; False where the lead has gone."""
        ...


class Pilot:
    """A worker's part in the roll-outs that run, in a thread of its own.

    It sleeps until a route changes; while a roll-out runs it looks about every second.
    """

    def __init__(self, store: RolloutStore, exchange: LocalExchange) -> None:
        self._store = store
        self._worker = f"{socket.gethostname():.64}:{os.getpid()}:{secrets.token_hex(4)}"
        self._ledger = _Ledger(exchange)
        self._stopping = False
        self._woken = threading.Event()
        self._is_reachable = True

    def start(self, loop: asyncio.AbstractEventLoop, on_ended: Callable[[], None]) -> None:
        """Fly until `stop`; `on_ended` is then called in the pilot's thread."""
        threading.Thread(
            target=self._fly, args=(loop, on_ended), name="modelyard roll-outs", daemon=True
        ).start()

    def wake(self) -> None:
        """A route was changed: perhaps a roll-out began."""
        self._woken.set()

    def stop(self) -> None:
        """Leave the roll-outs to others."""
        self._stopping = True
        self._woken.set()

    def _fly(self, loop: asyncio.AbstractEventLoop, on_ended: Callable[[], None]) -> None:
        pause_s: float | None = None
        while True:
            self._woken.wait(pause_s)
            self._woken.clear()
            if self._stopping:
                break
            try:
                pause_s = self._look(loop)
                self._is_reachable = True
            except Exception as error:  # noqa: BLE001 - a database may raise anything
                if self._is_reachable and not self._stopping:
                    _log.warning("roll-outs wait, as the registry does not answer: %s", error)
                self._is_reachable = False
                pause_s = _TICK_S
        on_ended()

    def _look(self, loop: asyncio.AbstractEventLoop) -> float | None:
        """Tend every roll-out that runs; returns when to look again, None for never."""
        running = self._store.running()
        counted = _on_loop(loop, lambda: self._ledger.count(running))
        for rollout in running:
            figures, complaint = counted[rollout.id]
            self._store.report(rollout.id, self._worker, figures)
            standing = self._store.lead(rollout.id, self._worker, _LEASE_S)
            if standing is not None:
                self._decide(standing, complaint)
        if not running:
            return None
        return max(0.05, min(_TICK_S, *(rollout.plan.every_s / 4 for rollout in running)))

    def _decide(self, standing: Standing, complaint: str) -> None:
        rollout, plan = standing.rollout, standing.rollout.plan
        candidate = standing.figures.get(rollout.candidate, Figures())
        stable = standing.figures.get(rollout.stable, Figures())
        readings = [judge(guard, candidate, stable, plan.least_calls) for guard in plan.guards]
        broken = [_tell(reading) for reading in readings if reading.verdict == "broken"]
        if broken:
            reason = f"broken at {rollout.percent:g}%: {'; '.join(broken)}"
            if self._store.break_off(rollout.id, self._worker, readings, reason):
                _log.warning("%s rolled back to %d: %s", rollout.model, rollout.stable, reason)
            return
        if rollout.next_at is None or datetime.datetime.now(datetime.UTC) < rollout.next_at:
            return
        lack = _lack(candidate, stable, readings, plan.least_calls)
        if lack and complaint:
            lack = f"the candidate cannot be served: {complaint}"
        if lack:
            self._store.wait(rollout.id, self._worker, lack)
        elif self._store.move(rollout.id, self._worker, rollout.step, readings):
            _log.info("%s:%d moved on from %g%%", rollout.model, rollout.candidate, rollout.percent)


class _Ledger:
    """What this worker has counted for each roll-out since it first saw it.

    An endpoint or a mirror may be replaced meanwhile and begin at nothing: what the one before had
    counted when it was last looked at is kept.
    """

    def __init__(self, exchange: LocalExchange) -> None:
        self._exchange = exchange
        self._accounts: dict[Hashable, _Account] = {}

    def count(self, rollouts: Sequence[Rollout]) -> Counted:
        """What to report of each, by its id; called on the loop's thread."""
        running = {rollout.id for rollout in rollouts}
        self._accounts = {
            key: account for key, account in self._accounts.items() if account.rollout in running
        }
        return {rollout.id: (self._count(rollout), self._why_not(rollout)) for rollout in rollouts}

    def _why_not(self, rollout: Rollout) -> str:
        for line in self._exchange.listings():
            if (line.model, line.version) == (rollout.model, rollout.candidate) and not line.ready:
                return line.reason
        return ""

    def _count(self, rollout: Rollout) -> dict[int, Figures]:
        counted: dict[int, Figures] = {}
        for version in (rollout.stable, rollout.candidate):
            endpoint = self._exchange.endpoint(rollout.model, version)
            now = _figures(endpoint.statistics.report()) if endpoint is not None else Figures()
            counted[version] = self._account(rollout.id, version).take(endpoint, now)
        mirror = self._exchange.mirror(rollout.model)
        now = _compared(mirror.report()) if mirror is not None else Figures()
        counted[rollout.candidate] += self._account(rollout.id, "mirror").take(mirror, now)
        return counted

    def _account(self, rollout: int, what: Hashable) -> "_Account":
        return self._accounts.setdefault((rollout, what), _Account(rollout))


class _Account:
    """Sums over one counter after the other."""

    def __init__(self, rollout: int) -> None:
        self.rollout = rollout
        self._counter: object = None
        self._is_new = True
        self._since = self._last = self._done = Figures()

    def take(self, counter: object, now: Figures) -> Figures:
        """What was counted in all, given what the present counter shows now."""
        if self._is_new:
            self._is_new, self._since = False, now
        elif counter is not self._counter:
            self._done += self._last - self._since
            self._since = Figures()
        self._counter, self._last = counter, now
        return self._done + now - self._since


def _figures(report: Report) -> Figures:
    refused = sum(report.refusals.get(code, 0) for code in _OVERLOAD)
    return Figures(
        calls=report.ok[0] + report.faults + refused,
        failures=report.faults + refused,
        buckets=dict(report.latency),
    )


def _compared(counts: ShadowCounts) -> Figures:
    return Figures(
        compared=counts.compared, agreed=counts.agreed, labels_agreed=counts.labels_agreed
    )


def _lack(
    candidate: Figures, stable: Figures, readings: Sequence[Reading], least_calls: int
) -> str:
    """What a step that is due still waits for; empty where nothing."""
    if candidate.calls < least_calls:
        return f"waits for calls: the candidate has had {candidate.calls} of {least_calls}"
    waiting = [reading for reading in readings if reading.verdict == "waits"]
    if not waiting:
        return ""
    if stable.calls < least_calls:
        return f"waits for calls: the stable version has had {stable.calls} of {least_calls}"
    return f"waits for calls: {waiting[0].guard} has seen {waiting[0].calls} of {least_calls}"


def _tell(reading: Reading) -> str:
    if reading.value is None or reading.bound is None:
        return reading.guard
    if reading.guard.startswith("p"):
        found = f"{reading.value / 1e6:.3g} ms, bound {reading.bound / 1e6:.3g} ms"
    else:
        found = f"{reading.value:.2%}, bound {reading.bound:.2%}"
    return f"{reading.guard} ({found}, {reading.calls} calls)"


def _on_loop(loop: asyncio.AbstractEventLoop, act: Callable[[], Counted]) -> Counted:
    """Do something on the loop's thread and wait for it; a loop that hangs is an error."""
    result: concurrent.futures.Future[Counted] = concurrent.futures.Future()

    def run() -> None:
        try:
            result.set_result(act())
        except BaseException as error:  # noqa: BLE001 - carried to the thread that waits
            result.set_exception(error)

    loop.call_soon_threadsafe(run)
    return result.result(timeout=10)
