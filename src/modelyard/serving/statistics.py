"""What an endpoint counts: how its calls ended, how long they took, and how they were batched."""

from typing import Final

import numpy as np
import numpy.typing as npt

from modelyard.core.call import Call, Outcome

_OK: Final = Outcome.OK
_FOLD: Final = 1024
"""After so many calls their times are folded into the histogram, all in one numpy operation."""
_STEPS: Final = 16
"""Buckets a doubling: a quantile is known to within five percent."""
_BUCKETS: Final = 40 * _STEPS
_FLOOR_NS: Final = 1000

Buckets = npt.NDArray[np.int64]


class Statistics:
    """Counts of one endpoint. Written on the event loop's thread, some tens of nanoseconds a call.

    `batches` maps a batch's rows to how many there were and the nanoseconds they took in all.
    """

    def __init__(self) -> None:
        self.ok = 0
        self.otherwise: dict[Outcome, int] = {}
        self.rows = 0
        self.latency_ns = 0
        self.batches: dict[int, list[int]] = {}
        self._latencies: list[int] = []
        self._buckets: Buckets = np.zeros(_BUCKETS, np.int64)

    def count(self, call: Call) -> None:
        """Take in an ended call."""
        outcome = call.outcome
        if outcome is _OK:
            self.ok += 1
            self.rows += call.rows
        elif outcome is not None:
            self.otherwise[outcome] = self.otherwise.get(outcome, 0) + 1
        took_ns = call.ended_ns - call.started_ns
        self.latency_ns += took_ns
        latencies = self._latencies
        latencies.append(took_ns)
        if len(latencies) >= _FOLD:
            self._fold()

    def count_batch(self, rows: int, took_ns: int) -> None:
        """Take in a batch that was run."""
        batch = self.batches.get(rows)
        if batch is None:
            self.batches[rows] = [1, took_ns]
        else:
            batch[0] += 1
            batch[1] += took_ns

    def buckets(self) -> Buckets:
        """Calls by latency, a copy: bucket `i` ends at `bucket_end_ns(i)`."""
        self._fold()
        return self._buckets.copy()

    def _fold(self) -> None:
        if self._latencies:
            times = np.maximum(np.array(self._latencies, np.float64) / _FLOOR_NS, 1.0)
            places = np.minimum((np.log2(times) * _STEPS).astype(np.int64), _BUCKETS - 1)
            self._buckets += np.bincount(places, minlength=_BUCKETS)
            self._latencies.clear()


def bucket_end_ns(bucket: int) -> float:
    """The longest latency that falls into a bucket, in nanoseconds."""
    end: float = _FLOOR_NS * 2.0 ** ((bucket + 1) / _STEPS)
    return end


def quantile_ns(buckets: Buckets, share: float) -> float:
    """The latency that `share` (0 to 1) of the calls did not exceed; 0.0 where there were none."""
    total = int(buckets.sum())
    if not total:
        return 0.0
    return bucket_end_ns(int(np.searchsorted(np.cumsum(buckets), share * total)))
