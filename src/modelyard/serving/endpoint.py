"""An endpoint: one version being served. Its queue, its batches, its lanes, its open calls.

Calls that arrive in one turn of the event loop become one batch; there is no timer and no window.
A batch that is expected to cost less than a thread hop runs in line; a longer one runs in a lane,
and while all lanes are busy the queue fills and becomes the next batch.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from modelyard.core.call import Call
from modelyard.core.errors import Exhausted, ModelyardError, TimedOut, Unavailable
from modelyard.core.ports import Arrays, Gate, Runtime
from modelyard.core.signature import FREE, Signature
from modelyard.serving.batch import Result, run_batch
from modelyard.serving.cost import BatchCost
from modelyard.serving.lane import ThreadLane

_log = logging.getLogger(__name__)

_TURN_NS = 2_000_000
"""How long one turn may run batches in line before it lets the loop read and write again."""
_LANE_WAIT_US = 10_000
_MOST_ENDED = 64
"""How many calls may have ended in the queue before it is swept."""
_NO_INPUTS: Arrays = {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one endpoint; see `Config` for their meaning."""

    queue_rows: int
    max_batch_rows: int
    inline_us: int
    lanes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Which version an endpoint serves, for protocols to show."""

    model: str
    version: int
    digest: str
    platform: str
    sample: Arrays | None
    cache: dict[str, Any] = field(default_factory=dict)


class Endpoint:
    """A version being served. Made anywhere, then used on the event loop's thread only."""

    def __init__(
        self, identity: Identity, runtime: Runtime, cost: BatchCost, gate: Gate, limits: Limits
    ) -> None:
        self.model = identity.model
        self.version = identity.version
        self.digest = identity.digest
        self.platform = identity.platform
        self.sample = identity.sample
        self.cache = identity.cache
        self.signature: Signature = runtime.signature
        self._runtime = runtime
        self._cost = cost
        self._gate = gate
        self._limits = limits
        self._ragged = any(FREE in spec.shape[1:] for spec in self.signature.inputs)
        self._queue: deque[Call] = deque()
        self._queued_rows = 0
        self._ended_in_queue = 0
        self._open_calls = 0
        self._turn_is_due = False
        self._idle: list[ThreadLane] = []
        self._busy = 0
        self._retired = False
        self._on_closed: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def open_calls(self) -> int:
        """Calls that were admitted here and have not ended."""
        return self._open_calls

    def accept(self, call: Call) -> None:
        """Admit the call and queue it; raises when it is refused, and then nothing was counted."""
        if self._retired:
            raise Unavailable("closing", f"'{self.model}:{self.version}' is being closed")
        if self._queued_rows + _weight(call) > self._limits.queue_rows and self._queued_rows:
            raise Exhausted(
                "queue_full",
                f"{self._queued_rows} rows wait for '{self.model}' already; try again in a moment",
            )
        self._gate.admit(call)
        call.settle = self._settle_waiting
        self._open_calls += 1
        self._queue.append(call)
        self._queued_rows += _weight(call)
        if call.deadline_ns is not None:
            self._watch(call, call.deadline_ns)
        if not self._turn_is_due:
            self._schedule()

    def retire(self, on_closed: Callable[[], None] | None = None) -> None:
        """Take no more calls; close the runtime when the last one has ended."""
        self._retired = True
        self._on_closed = on_closed
        self._close_when_done()

    def _settle_waiting(self, call: Call) -> None:
        """Settle a call that ended in the queue, and give its place to others at once."""
        self._queued_rows -= _weight(call)
        call.inputs = _NO_INPUTS
        self._ended_in_queue += 1
        if self._ended_in_queue > _MOST_ENDED and self._ended_in_queue * 2 > len(self._queue):
            self._queue = deque(each for each in self._queue if each.outcome is None)
            self._ended_in_queue = 0
        self._settle(call)

    def _settle(self, call: Call) -> None:
        self._open_calls -= 1
        try:
            self._gate.settle(call)
        finally:
            if self._retired:
                self._close_when_done()

    def _close_when_done(self) -> None:
        if self._open_calls or self._busy:
            return
        lanes, self._idle = self._idle, []
        for lane in lanes:
            lane.close()
        self._queue.clear()
        try:
            self._runtime.close()
        except Exception:  # noqa: BLE001 - whatever it is, the version has gone
            _log.exception("%s:%d could not be closed", self.model, self.version)
        on_closed, self._on_closed = self._on_closed, None
        if on_closed is not None:
            on_closed()

    def _watch(self, call: Call, deadline_ns: int) -> None:
        remaining_s = (deadline_ns - time.monotonic_ns()) / 1e9
        if remaining_s <= 0:
            end_late(call)
        else:
            call.timer = self._running_loop().call_later(remaining_s, end_late, call)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        return self._loop

    def _schedule(self) -> None:
        self._turn_is_due = True
        self._running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """Run what has arrived: in line while that is cheap, else in idle lanes."""
        self._turn_is_due = False
        until_ns = time.monotonic_ns() + _TURN_NS
        while self._queue:
            rows = self._cost.rows_within(self._limits.inline_us) if self._cost.is_known else 0
            if rows >= self._queue[0].rows:
                self._run_in_line(self._take(min(rows, self._limits.max_batch_rows)))
                if self._queue and time.monotonic_ns() >= until_ns:
                    self._schedule()
                    return
            elif not self._run_in_lane():
                # Every lane is busy; the next one to finish takes another turn.
                return

    def _run_in_line(self, calls: list[Call]) -> None:
        if not calls:
            return
        started_ns = time.perf_counter_ns()
        results = run_batch(self._runtime, calls)
        self._finish(calls, results, (time.perf_counter_ns() - started_ns) / 1000)

    def _run_in_lane(self) -> bool:
        lane = self._idle_lane()
        if lane is None:
            return False
        # Two lanes with half the queue each beat one lane with all of it.
        share = math.ceil(self._queued_rows / (self._limits.lanes - self._busy))
        calls = self._take(min(share, self._limits.max_batch_rows))
        if not calls:
            self._idle.append(lane)
            return True
        self._busy += 1

        def work() -> Callable[[], None]:
            started_ns, started_cpu_ns = time.perf_counter_ns(), time.thread_time_ns()
            results = run_batch(self._runtime, calls)
            cpu_us = (time.thread_time_ns() - started_cpu_ns) / 1000
            took_us = (time.perf_counter_ns() - started_ns) / 1000
            # A lane also waits for the interpreter, some milliseconds when the loop is busy. That
            # is no cost of the model; counting it would keep a cheap one in lanes for ever.
            cost_us = cpu_us if took_us - cpu_us < _LANE_WAIT_US else took_us
            return lambda: self._leave_lane(lane, calls, results, cost_us)

        lane.start(work)
        return True

    def _idle_lane(self) -> ThreadLane | None:
        if self._idle:
            return self._idle.pop()
        if self._busy < self._limits.lanes:
            name = f"{self.model}:{self.version} lane {self._busy}"
            return ThreadLane(self._running_loop(), name)
        return None

    def _leave_lane(
        self, lane: ThreadLane, calls: list[Call], results: list[Result], cost_us: float
    ) -> None:
        self._busy -= 1
        self._idle.append(lane)
        self._finish(calls, results, cost_us)
        if self._retired:
            self._close_when_done()
        if self._queue and not self._turn_is_due:
            self._turn()

    def _take(self, max_rows: int) -> list[Call]:
        """The next batch from the queue's front: calls that still want an answer and fit together.

        At least one call, however many rows it has; empty only when every call had ended.
        """
        queue, batch, rows, weight = self._queue, list[Call](), 0, 0
        shape: object = None
        while queue:
            call = queue[0]
            if call.outcome is not None:
                queue.popleft()
                self._ended_in_queue -= 1
                continue
            if batch:
                if rows + call.rows > max_rows:
                    break
                if self._ragged and self._row_shape(call) != shape:
                    break
            elif self._ragged:
                shape = self._row_shape(call)
            queue.popleft()
            call.settle = self._settle
            weight += _weight(call)
            batch.append(call)
            rows += call.rows
            if not self.signature.batched:
                break
        self._queued_rows -= weight
        return batch

    def _row_shape(self, call: Call) -> tuple[tuple[int, ...], ...]:
        return tuple(call.inputs[spec.name].shape[1:] for spec in self.signature.inputs)

    def _finish(self, calls: Sequence[Call], results: Sequence[Result], cost_us: float) -> None:
        self._cost.observe(sum(call.rows for call in calls) or 1, cost_us)
        for call, result in zip(calls, results, strict=True):
            try:
                if isinstance(result, ModelyardError):
                    call.fail(result)
                else:
                    call.answer(result)
            except Exception:  # noqa: BLE001 - the others of the batch must get theirs
                _log.exception("the end of call %s could not be told", call.id)


def _weight(call: Call) -> int:
    # Calls without rows take a place too: the queue must be bounded for them as well.
    return call.rows or 1


def end_late(call: Call) -> None:
    """End a call whose deadline has passed; one that has ended already is left alone."""
    call.fail(TimedOut("deadline_passed", "the call's deadline passed before it was answered"))
