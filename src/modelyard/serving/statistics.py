"""What an endpoint counts: how its calls ended, how long they took, and how they were batched."""

import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from modelyard.core.call import Call, Outcome
from modelyard.core.errors import Kind
from modelyard.serving.report import BUCKETS_A_DOUBLING, FLOOR_NS, Report

_OK: Final = Outcome.OK
_FAULTS: Final = (Kind.INTERNAL, Kind.UNAVAILABLE, Kind.TIMEOUT)
_LEFT: Final = (Outcome.CANCELLED, Outcome.CLIENT_GONE)
_FOLD: Final = 1024
"""After so many calls their times are folded into the histogram, all in one numpy operation."""
_EXACT_ROWS: Final = 1024
"""Larger batches count as of the next lower power of two: how many rows a call has is its caller's
choice, and each number is kept, reported and added up for ever."""
_BUCKETS: Final = 40 * BUCKETS_A_DOUBLING


class Statistics:
    """Counts of one endpoint. Written on the event loop's thread, some tens of nanoseconds a call.

    Latencies are those of calls that were answered or failed, not of those whose callers left.
    """

    def __init__(self) -> None:
        self._rows = 0
        self._ok = [0, 0]
        self._otherwise: dict[Outcome, list[int]] = {}
        self._faults = 0
        self._refusals: dict[str, int] = {}
        self._queue = [0, 0]
        self._cache_hit = [0, 0]
        self._batches: dict[int, list[int]] = {}
        self._last_batch_ns = 0
        self._latencies: list[int] = []
        self._buckets: npt.NDArray[np.int64] = np.zeros(_BUCKETS, np.int64)

    def count(self, call: Call) -> None:
        """Take in an ended call."""
        if call.outcome is not _OK:
            self._count_otherwise(call)
            return
        self._rows += call.rows
        latencies = self._latencies
        latencies.append(call.ended_ns - call.started_ns)
        if len(latencies) >= _FOLD:
            self._fold()

    def count_refusal(self, code: str) -> None:
        """Take in that a call was not let in."""
        self._refusals[code] = self._refusals.get(code, 0) + 1

    def count_cache_hit(self, call: Call) -> None:
        """Take in that the response cache answered a call, which is counted as any other too."""
        _add(self._cache_hit, 1, call.ended_ns - call.started_ns)

    def begin(self, calls: Sequence[Call]) -> None:
        """Take in that these calls run from now on, beside the loop."""

    def count_batch(self, rows: int, took_ns: int, ended_ns: int) -> None:
        """Take in a batch that was run, and ended at a `time.monotonic_ns` moment."""
        self._last_batch_ns = ended_ns
        if rows > _EXACT_ROWS:
            rows = 1 << (rows.bit_length() - 1)
        batch = self._batches.get(rows)
        if batch is None:
            self._batches[rows] = [1, took_ns]
        else:
            batch[0] += 1
            batch[1] += took_ns

    def count_waiting(self, calls: int, waited_ns: int) -> None:
        """Take in that so many calls left the queue for a batch after so long, added up."""
        queue = self._queue
        queue[0] += calls
        queue[1] += waited_ns

    def report(self) -> Report:
        """Everything counted so far, as plain data."""
        self._fold()
        places = np.flatnonzero(self._buckets)
        return Report(
            rows=self._rows,
            last_ms=self._last_ms(),
            ok=(self._ok[0], self._ok[1]),
            otherwise={
                str(outcome): (count, ns) for outcome, (count, ns) in self._otherwise.items()
            },
            faults=self._faults,
            refusals=dict(self._refusals),
            queue=(self._queue[0], self._queue[1]),
            compute=(
                sum(count for count, _ in self._batches.values()),
                sum(ns for _, ns in self._batches.values()),
            ),
            cache_hit=(self._cache_hit[0], self._cache_hit[1]),
            batches={rows: (count, ns) for rows, (count, ns) in self._batches.items()},
            latency=dict(zip(places.tolist(), self._buckets[places].tolist(), strict=True)),
        )

    def _last_ms(self) -> int:
        if not self._last_batch_ns:
            return 0
        return (time.time_ns() - (time.monotonic_ns() - self._last_batch_ns)) // 1_000_000

    def _count_otherwise(self, call: Call) -> None:
        outcome, took_ns = call.outcome, call.ended_ns - call.started_ns
        if outcome is None:
            return
        _add(self._otherwise.setdefault(outcome, [0, 0]), 1, took_ns)
        if call.error is not None and call.error.kind in _FAULTS:
            self._faults += 1
        if outcome not in _LEFT:
            self._place([took_ns])

    def _fold(self) -> None:
        latencies = self._latencies
        if latencies:
            _add(self._ok, len(latencies), sum(latencies))
            self._place(latencies)
            latencies.clear()

    def _place(self, latencies_ns: list[int]) -> None:
        times = np.maximum(np.array(latencies_ns, np.float64) / FLOOR_NS, 1.0)
        places = (np.log2(times) * BUCKETS_A_DOUBLING).astype(np.int64)
        self._buckets += np.bincount(np.minimum(places, _BUCKETS - 1), minlength=_BUCKETS)


def _add(tally: list[int], count: int, ns: int) -> None:
    tally[0] += count
    tally[1] += ns
