"""The scheduler: an endpoint's queue, its batches, and where each of them runs.

Calls that arrive in one turn of the event loop become one batch; there is no timer and no window,
unless the operator asks for one. A batch that is expected to cost less than a thread hop runs in
line; a longer one runs in a lane, and while all lanes are busy the queue fills and becomes the next
batch.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from modelyard.core.call import Call
from modelyard.core.config import Config
from modelyard.core.errors import Exhausted, ModelyardError
from modelyard.core.ports import Runtime
from modelyard.core.route import Options
from modelyard.serving.batch import Result, run_batch
from modelyard.serving.cost import BatchCost, BatchSizes, LaneCost, QuickestRun
from modelyard.serving.endpoint import end_late
from modelyard.serving.lane import LaneClock, ThreadLane
from modelyard.serving.objective import Objective
from modelyard.serving.queue import Batch, CallQueue, size_bytes
from modelyard.serving.report import Load
from modelyard.serving.statistics import Statistics

_log = logging.getLogger(__name__)

_TURN_NS: Final = 2_000_000
"""How long one turn may run batches in line before it lets the loop read and write again."""
_MOST_ROWS: Final = 1024
_LONGEST_BATCH_US: Final = 50_000.0
"""A batch whose size was found by measurement takes no longer than this: nobody waits for a
thousand rows of an encoder."""
_SPARE_NS: Final = 5_000_000
"""How long before a deadline a window ends, beside the time that the batch takes."""
_LONGEST_WAIT_S: Final = 60.0
_UNTOLD: Final = "the end of call %s could not be told"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of one scheduler; see `Config` and `Options` for their meaning.

    Of `queue_rows`, calls of low priority may fill one half, and those of high priority find a
    quarter more. `max_batch_rows` 0 has the largest batch found by measurement.
    """

    queue_rows: int
    max_batch_rows: int
    inline_us: int
    lanes: int
    queue_bytes: int = 256 * 1024 * 1024
    window_us: int = 0
    preferred_rows: tuple[int, ...] = ()
    p99_ms: float | None = None

    @classmethod
    def of(cls, config: Config, options: Options, cores: int) -> "Limits":
        """What a route's options say, and the node's settings where they say nothing."""
        return cls(
            queue_rows=options.queue_rows or config.queue_rows,
            queue_bytes=config.queue_bytes,
            max_batch_rows=options.max_batch_rows or config.max_batch_rows,
            inline_us=config.inline_us if options.inline_us is None else options.inline_us,
            lanes=options.lanes or config.lanes or cores,
            window_us=options.window_us or 0,
            preferred_rows=options.preferred_rows,
            p99_ms=options.p99_ms,
        )


class Scheduler:
    """Runs calls on a runtime of this process. Used on the event loop's thread only."""

    def __init__(
        self,
        name: str,
        runtime: Runtime,
        cost: BatchCost,
        limits: Limits,
        statistics: Statistics,
        *,
        wide: Runtime | None = None,
    ) -> None:
        self._name = name
        self._runtime = runtime
        self._wide = wide
        self._cost = cost
        self._lane_cost = LaneCost()
        self._sizes = BatchSizes()
        self._quickest = QuickestRun()
        self._limits = limits
        self._statistics = statistics
        self._queue = CallQueue(runtime.signature)
        self._objective = _objective(limits, cost)
        self._most_rows = limits.max_batch_rows or _MOST_ROWS
        self._preferred = sorted({min(rows, self._most_rows) for rows in limits.preferred_rows})
        self._window_ns = limits.window_us * 1000
        self._window_end: asyncio.TimerHandle | None = None
        self._window_end_ns = 0
        self._queue_rows = _queue_rows(limits, self._queue.row_bytes)
        self._free_rows = 0 if self._objective or self._queue.weighs else self._queue_rows // 2
        self._turn_is_due = False
        self._idle: list[ThreadLane] = []
        self._busy = 0
        self._running_rows = 0
        self._lane_ended_ns = 0
        self._on_closed: Callable[[], None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def trouble(self) -> str | None:
        """Nothing stands between it and its runtime."""
        return None

    def load(self) -> Load:
        """What waits, and what a batch costs."""
        fixed_us, row_us = self._cost.line()
        return Load(place="worker", queued_rows=self._queue.rows, fixed_us=fixed_us, row_us=row_us)

    def check_room(self, call: Call) -> None:
        """Raise `Exhausted` where the queue is full, or the call would come too late.

        A lone call always finds room.
        """
        rows = self._queue.rows
        if rows and rows + call.rows >= self._free_rows:
            self._check_bounds(call, rows)

    def _check_bounds(self, call: Call, rows: int) -> None:
        room = self._queue_rows
        if call.priority:
            room = room + room // 4 if call.priority > 0 else room // 2
        is_full = rows + (call.rows or 1) > room
        if not is_full and self._queue.weighs:
            is_full = self._queue.bytes + size_bytes(call) > self._limits.queue_bytes
        if is_full:
            raise Exhausted(
                "queue_full",
                f"{rows} rows wait for '{self._name}' already; try again in a moment",
                retry_after_s=self._wait_s(),
            )
        if self._objective is not None:
            self._check_objective(call, self._objective)

    def _check_objective(self, call: Call, objective: Objective) -> None:
        first = self._queue.first()
        waited_ns = 0 if first is None else time.monotonic_ns() - first.started_ns
        # What runs is half done, on average.
        before = self._queue.rows_before(call.priority) + self._running_rows / 2
        if not objective.admits(before, waited_ns):
            raise Exhausted(
                "objective_missed",
                f"'{self._name}' could not answer within its {self._limits.p99_ms:g} ms; "
                "try again in a moment",
                retry_after_s=self._wait_s(),
            )

    def _wait_s(self) -> float:
        """When what waits now will have left, as far as one can tell."""
        if self._objective is not None:
            wait_us = self._objective.expected_ns(self._queue.rows) / 1000
        else:
            wait_us = self._cost.estimate_us(self._queue.rows) / self._limits.lanes
        return min(wait_us / 1e6, _LONGEST_WAIT_S)

    def enqueue(self, call: Call) -> None:
        """Queue the call for this turn of the loop."""
        self._queue.push(call)
        if not self._turn_is_due:
            self._schedule()

    def forget(self, call: Call) -> None:
        """Give the place of a call that ended in the queue to others at once."""
        self._queue.forget(call)

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
        if self._window_end is not None:
            self._window_end.cancel()
        for runtime in filter(None, (self._runtime, self._wide)):
            try:
                runtime.close()
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
        queue = self._queue
        while (first := queue.first()) is not None:
            if self._window_ns and self._waits_for_more():
                return
            rows = self._cost.rows_within(self._limits.inline_us) if self._cost.is_known else 0
            if rows >= first.rows:
                self._run_in_line(min(rows, self._most_rows))
                if queue.rows and time.monotonic_ns() >= until_ns:
                    self._schedule()
                    return
            elif not self._run_in_lane():
                # Every lane is busy; the next one to finish takes another turn.
                return

    def _waits_for_more(self) -> bool:
        """Whether the batch may grow still; then a turn is due when it may not any more."""
        enough = self._preferred[0] if self._preferred else self._most_rows
        if self._queue.rows >= enough:
            return False
        spare_ns = int(2_000 * self._cost.estimate_us(self._queue.rows)) + _SPARE_NS
        end_ns = min(
            each.started_ns + self._window_ns
            if each.deadline_ns is None
            else min(each.started_ns + self._window_ns, each.deadline_ns - spare_ns)
            for each in self._queue
        )
        wait_ns = end_ns - time.monotonic_ns()
        if wait_ns <= 0:
            return False
        if self._window_end is None or end_ns < self._window_end_ns:
            if self._window_end is not None:
                self._window_end.cancel()
            self._window_end_ns = end_ns
            self._window_end = self._running_loop().call_later(wait_ns / 1e9, self._end_window)
        return True

    def _end_window(self) -> None:
        self._window_end = None
        if not self._turn_is_due:
            self._turn()

    def _run_in_line(self, max_rows: int) -> None:
        batch = self._take(max_rows)
        if not batch.calls:
            return
        started_ns = time.monotonic_ns()
        results = run_batch(self._runtime, batch.calls)
        ended_ns = time.monotonic_ns()
        took_ns = ended_ns - started_ns
        self._cost.observe(batch.rows or 1, took_ns / 1000)
        if self._objective is not None:
            self._objective.observe(batch.rows or 1, took_ns, took_ns)
        self._finish(batch, results, started_ns, ended_ns)

    def _run_in_lane(self) -> bool:
        lane = self._idle_lane()
        if lane is None:
            return False
        # Two lanes with half the queue each beat one lane with all of it.
        share = math.ceil(self._queue.rows / (self._limits.lanes - self._busy))
        batch = self._take(min(share, self._most_rows_in_lane()), self._quickest.ns)
        if not batch.calls:
            self._idle.append(lane)
            return True
        # A call that is alone has all cores; as soon as there are more, each batch has one.
        is_alone = not self._busy and not self._queue.rows
        runtime = self._wide if self._wide is not None and is_alone else self._runtime
        self._busy += 1
        self._running_rows += batch.rows
        self._statistics.begin(batch.calls)

        def work() -> Callable[[], None]:
            clock = LaneClock()
            results = run_batch(runtime, batch.calls)
            clock.stop()
            return lambda: self._leave_lane(lane, runtime, batch, results, clock)

        lane.start(work)
        return True

    def _most_rows_in_lane(self) -> int:
        budget_us = _LONGEST_BATCH_US if self._objective is None else self._objective.batch_us
        if not self._limits.max_batch_rows:
            return min(self._sizes.best_rows(budget_us), self._most_rows)
        if self._objective is None:
            return self._most_rows
        return max(1, min(self._cost.rows_within(budget_us), self._most_rows))

    def _idle_lane(self) -> ThreadLane | None:
        if self._idle:
            return self._idle.pop()
        if self._busy < self._limits.lanes:
            return ThreadLane(self._running_loop(), f"{self._name} lane {self._busy}")
        return None

    def _leave_lane(
        self,
        lane: ThreadLane,
        runtime: Runtime,
        batch: Batch,
        results: list[Result],
        clock: LaneClock,
    ) -> None:
        self._busy -= 1
        self._running_rows -= batch.rows
        self._idle.append(lane)
        rows, took_ns, ended_ns = batch.rows or 1, clock.took_ns, clock.ended_ns
        if runtime is self._runtime:
            # What it took with all cores says nothing of what a batch costs one.
            self._cost.observe(rows, self._lane_cost.of(took_ns, clock.cpu_ns, clock.idle_ns))
            self._sizes.observe(rows, took_ns / 1000)
        self._quickest.observe(took_ns)
        if self._objective is not None:
            # While the lanes are busy all the time one batch ends so long after the other.
            paced_ns = min(max(0, ended_ns - self._lane_ended_ns), took_ns)
            self._objective.observe(rows, took_ns, paced_ns)
            self._lane_ended_ns = max(self._lane_ended_ns, ended_ns)
        self._finish(batch, results, clock.started_ns, ended_ns)
        if self._on_closed is not None:
            if not self._busy:
                self._close()
        elif self._queue.rows and not self._turn_is_due:
            self._turn()

    def _take(self, max_rows: int, least_ns: int = 0) -> Batch:
        """The next batch, of a preferred size where enough waits for one."""
        if self._preferred:
            waiting = min(self._queue.rows, max_rows)
            max_rows = max((rows for rows in self._preferred if rows <= waiting), default=max_rows)
        batch = self._queue.take(max_rows, least_ns)
        if batch.late:
            self._end_late(batch.late)
        return batch

    def _end_late(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self._quickest.doubt()
            try:
                end_late(call)
            except Exception:  # noqa: BLE001 - the others must still be run
                _log.exception(_UNTOLD, call.id)

    def _finish(
        self, batch: Batch, results: Sequence[Result], started_ns: int, ended_ns: int
    ) -> None:
        calls = batch.calls
        took_ns = ended_ns - started_ns
        self._statistics.count_batch(batch.rows or 1, took_ns, ended_ns)
        self._statistics.count_waiting(len(calls), len(calls) * started_ns - batch.born_ns)
        if self._objective is not None:
            self._objective.judge(ended_ns - calls[0].started_ns)
        for call, result in zip(calls, results, strict=True):
            try:
                if isinstance(result, ModelyardError):
                    call.fail(result)
                else:
                    call.answer(result)
            except Exception:  # noqa: BLE001 - the others of the batch must get theirs
                _log.exception(_UNTOLD, call.id)


def _queue_rows(limits: Limits, row_bytes: int | None) -> int:
    """The rows that may wait, fewer where so many would hold too many bytes."""
    if not row_bytes:
        return limits.queue_rows
    return max(1, min(limits.queue_rows, limits.queue_bytes // row_bytes))


def _objective(limits: Limits, cost: BatchCost) -> Objective | None:
    if limits.p99_ms is None:
        return None
    objective = Objective(limits.p99_ms)
    if cost.is_known:
        # What warm-up has found, so that the first burst is not let in whole.
        row_ns = 1000 * cost.estimate_us(1)
        objective.observe(1, int(row_ns), row_ns / limits.lanes)
    return objective
