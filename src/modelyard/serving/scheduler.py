"""The scheduler: an endpoint's queue, its batches, and where each of them runs.

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
from dataclasses import dataclass

from modelyard.core.call import Call
from modelyard.core.errors import Exhausted, ModelyardError
from modelyard.core.ports import Arrays, Runtime
from modelyard.core.signature import FREE
from modelyard.serving.batch import Result, run_batch
from modelyard.serving.cost import BatchCost
from modelyard.serving.lane import ThreadLane
from modelyard.serving.report import Load
from modelyard.serving.statistics import Statistics

_log = logging.getLogger(__name__)

_TURN_NS = 2_000_000
"""How long one turn may run batches in line before it lets the loop read and write again."""
_LANE_WAIT_US = 10_000
_NO_INPUTS: Arrays = {}
_MOST_ENDED = 64
"""How many calls may have ended in the queue before it is swept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one scheduler; see `Config` for their meaning."""

    queue_rows: int
    max_batch_rows: int
    inline_us: int
    lanes: int


class Scheduler:
    """Runs calls on a runtime of this process. Used on the event loop's thread only."""

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        cost: BatchCost,
        limits: Limits,
        statistics: Statistics,
    ) -> None:
        self._name = name
        self._runtime = runtime
        self._cost = cost
        self._limits = limits
        self._statistics = statistics
        signature = runtime.signature
        self._inputs = signature.inputs
        self._batched = signature.batched
        self._ragged = any(FREE in spec.shape[1:] for spec in signature.inputs)
        self._queue: deque[Call] = deque()
        self._queued_rows = 0
        self._ended_in_queue = 0
        self._turn_is_due = False
        self._idle: list[ThreadLane] = []
        self._busy = 0
        self._on_closed: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def trouble(self) -> str | None:
        """Nothing stands between it and its runtime."""
        return None

    def load(self) -> Load:
        """What waits, and what a batch costs."""
        fixed_us, row_us = self._cost.line()
        return Load(place="worker", queued_rows=self._queued_rows, fixed_us=fixed_us, row_us=row_us)

    def check_room(self, call: Call) -> None:
        """Raise `Exhausted` where the queue is full. A lone call always finds room."""
        if self._queued_rows + _weight(call) > self._limits.queue_rows and self._queued_rows:
            raise Exhausted(
                "queue_full",
                f"{self._queued_rows} rows wait for '{self._name}' already; try again in a moment",
            )

    def enqueue(self, call: Call) -> None:
        """Queue the call for this turn of the loop."""
        call.is_waiting = True
        self._queue.append(call)
        self._queued_rows += _weight(call)
        if not self._turn_is_due:
            self._schedule()

    def forget(self, call: Call) -> None:
        """Give the place of a call that ended in the queue to others at once."""
        if not call.is_waiting:
            return
        call.is_waiting = False
        call.inputs = _NO_INPUTS
        self._queued_rows -= _weight(call)
        self._ended_in_queue += 1
        if self._ended_in_queue > _MOST_ENDED and self._ended_in_queue * 2 > len(self._queue):
            self._queue = deque(each for each in self._queue if each.is_waiting)
            self._ended_in_queue = 0

    def close(self, on_closed: Callable[[], None]) -> None:
        """Close the runtime when no lane runs any more."""
        self._on_closed = on_closed
        if not self._busy:
            self._close()

    def _close(self) -> None:
        lanes, self._idle = self._idle, []
        for lane in lanes:
            lane.close()
        self._queue.clear()
        try:
            self._runtime.close()
        except Exception:  # noqa: BLE001 - whatever it is, the version has gone
            _log.exception("%s could not be closed", self._name)
        on_closed, self._on_closed = self._on_closed, None
        if on_closed is not None:
            on_closed()

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
        took_ns = time.perf_counter_ns() - started_ns
        self._finish(calls, results, took_ns, took_ns / 1000)

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
            took_ns = time.perf_counter_ns() - started_ns
            took_us = took_ns / 1000
            # A lane also waits for the interpreter, some milliseconds when the loop is busy. That
            # is no cost of the model; counting it would keep a cheap one in lanes for ever.
            cost_us = cpu_us if took_us - cpu_us < _LANE_WAIT_US else took_us
            return lambda: self._leave_lane(lane, calls, results, took_ns, cost_us)

        lane.start(work)
        return True

    def _idle_lane(self) -> ThreadLane | None:
        if self._idle:
            return self._idle.pop()
        if self._busy < self._limits.lanes:
            return ThreadLane(self._running_loop(), f"{self._name} lane {self._busy}")
        return None

    def _leave_lane(
        self,
        lane: ThreadLane,
        calls: list[Call],
        results: list[Result],
        took_ns: int,
        cost_us: float,
    ) -> None:
        self._busy -= 1
        self._idle.append(lane)
        self._finish(calls, results, took_ns, cost_us)
        if self._on_closed is not None:
            if not self._busy:
                self._close()
        elif self._queue and not self._turn_is_due:
            self._turn()

    def _take(self, max_rows: int) -> list[Call]:
        """The next batch from the queue's front: calls that still want an answer and fit together.

        At least one call, however many rows it has; empty only when every call had ended.
        """
        queue, batch, rows, weight = self._queue, list[Call](), 0, 0
        shape: object = None
        while queue:
            call = queue[0]
            if not call.is_waiting:
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
            call.is_waiting = False
            weight += _weight(call)
            batch.append(call)
            rows += call.rows
            if not self._batched:
                break
        self._queued_rows -= weight
        return batch

    def _row_shape(self, call: Call) -> tuple[tuple[int, ...], ...]:
        return tuple(call.inputs[spec.name].shape[1:] for spec in self._inputs)

    def _finish(
        self, calls: Sequence[Call], results: Sequence[Result], took_ns: int, cost_us: float
    ) -> None:
        rows = sum(call.rows for call in calls) or 1
        self._cost.observe(rows, cost_us)
        ended_ns = time.monotonic_ns()
        self._statistics.count_batch(rows, took_ns, ended_ns)
        self._statistics.count_waiting(
            len(calls), len(calls) * (ended_ns - took_ns) - sum(call.started_ns for call in calls)
        )
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
