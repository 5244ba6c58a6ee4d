"""What an endpoint has counted, as plain data that travels between processes and adds up."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec

if TYPE_CHECKING:
    from modelyard.core.ports import ServedStatistics

_Key = TypeVar("_Key")

BUCKETS_A_DOUBLING: Final = 16
"""A quantile is known to within five percent."""
FLOOR_NS: Final = 1000

Tally = tuple[int, int]
"""How often something was done, and the nanoseconds that it took in all."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of one endpoint, or of the same version's endpoints in several processes.

    `ok` and `otherwise` (by outcome) count admitted calls with their time from first to last byte
    of work, `faults` those of the latter that were no fault of their callers, `refusals` by error
    code those that were not let in. `queue` counts calls that waited
    for a batch, `compute` batches, `batches` those by their rows, `cache_hit` the calls that the
    response cache answered; `latency` is calls by bucket, of which number `i` ends at
    `bucket_end_ns(i)`. `last_ms` is when a batch was last run, in milliseconds since 1970.
    """

    rows: int = 0
    last_ms: int = 0
    ok: Tally = (0, 0)
    otherwise: dict[str, Tally] = {}
    faults: int = 0
    refusals: dict[str, int] = {}
    queue: Tally = (0, 0)
    compute: Tally = (0, 0)
    cache_hit: Tally = (0, 0)
    batches: dict[int, Tally] = {}
    latency: dict[int, int] = {}

    def quantile_ns(self, share: float) -> float:
        """The latency that `share` (0 to 1) of the calls did not exceed; 0.0 without calls."""
        wanted = share * sum(self.latency.values())
        reached = 0
        for bucket in sorted(self.latency):
            reached += self.latency[bucket]
            if reached >= wanted:
                return bucket_end_ns(bucket)
        return 0.0

    def since(self, before: "Report") -> "Report":
        """What was counted after `before`, an earlier report of the same endpoints."""
        return Report(
            rows=self.rows - before.rows,
            last_ms=self.last_ms,
            ok=_less(self.ok, before.ok),
            otherwise=_each_less(self.otherwise, before.otherwise),
            faults=self.faults - before.faults,
            refusals={
                code: more
                for code, count in self.refusals.items()
                if (more := count - before.refusals.get(code, 0))
            },
            queue=_less(self.queue, before.queue),
            compute=_less(self.compute, before.compute),
            cache_hit=_less(self.cache_hit, before.cache_hit),
            batches=_each_less(self.batches, before.batches),
            latency={
                bucket: more
                for bucket, count in self.latency.items()
                if (more := count - before.latency.get(bucket, 0))
            },
        )

    def statistics(self, model: str, version: int) -> "ServedStatistics":
        """The same for protocols to show."""
        from modelyard.core.ports import ServedStatistics, Spent

        return ServedStatistics(
            model=model,
            version=version,
            rows=self.rows,
            last_ms=self.last_ms,
            success=Spent(*self.ok),
            fail=Spent(*_total(self.otherwise.values())),
            queue=Spent(*self.queue),
            compute=Spent(*self.compute),
            cache_hit=Spent(*self.cache_hit),
            batches={rows: Spent(*tally) for rows, tally in sorted(self.batches.items())},
        )


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a backend does at this moment, and what it expects a batch to cost.

    `place` is where it runs: `worker`, or `process 4711`. A batch of n rows is expected to take
    `fixed_us + n * row_us` microseconds.
    """

    place: str
    queued_rows: int = 0
    fixed_us: float = 0.0
    row_us: float = 0.0


class State(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint of one process, for an operator to see."""

    model: str
    version: int
    digest: str
    platform: str
    trouble: str | None
    open_calls: int
    load: Load
    report: Report


def merge(reports: Iterable[Report]) -> Report:
    """The sum of what several processes have counted of one version."""
    every = list(reports)
    return Report(
        rows=sum(each.rows for each in every),
        last_ms=max((each.last_ms for each in every), default=0),
        ok=_total(each.ok for each in every),
        otherwise=_each_total(each.otherwise for each in every),
        faults=sum(each.faults for each in every),
        refusals=_sums(each.refusals for each in every),
        queue=_total(each.queue for each in every),
        compute=_total(each.compute for each in every),
        cache_hit=_total(each.cache_hit for each in every),
        batches=_each_total(each.batches for each in every),
        latency=_sums(each.latency for each in every),
    )


def bucket_end_ns(bucket: int) -> float:
    """The longest latency that falls into a bucket, in nanoseconds."""
    end: float = FLOOR_NS * 2.0 ** ((bucket + 1) / BUCKETS_A_DOUBLING)
    return end


def _total(tallies: Iterable[Tally]) -> Tally:
    count = ns = 0
    for each in tallies:
        count += each[0]
        ns += each[1]
    return count, ns


def _less(tally: Tally, before: Tally) -> Tally:
    return tally[0] - before[0], tally[1] - before[1]


def _each_total(every: Iterable[Mapping[_Key, Tally]]) -> dict[_Key, Tally]:
    totals: dict[_Key, Tally] = {}
    for tallies in every:
        for key, tally in tallies.items():
            totals[key] = _total((totals.get(key, (0, 0)), tally))
    return totals


def _each_less(tallies: Mapping[_Key, Tally], before: Mapping[_Key, Tally]) -> dict[_Key, Tally]:
    less = {key: _less(tally, before.get(key, (0, 0))) for key, tally in tallies.items()}
    return {key: tally for key, tally in less.items() if tally[0]}


def _sums(every: Iterable[Mapping[_Key, int]]) -> dict[_Key, int]:
    sums: dict[_Key, int] = {}
    for counts in every:
        for key, count in counts.items():
            sums[key] = sums.get(key, 0) + count
    return sums
