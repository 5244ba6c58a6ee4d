import time

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.call import Call, Outcome
from modelyard.core.errors import Cancelled, Internal, ModelyardError
from modelyard.core.ports import ServedStatistics, Spent
from modelyard.serving.report import Report, merge
from modelyard.serving.statistics import Statistics

FAILED = Internal("model_failed", "it failed")
GONE = Cancelled("cancelled", "it left")


def ended(took_ns: int, rows: int = 1, error: ModelyardError | None = None) -> Call:
    call = Call(None, {}, rows, lambda _: None)  # type: ignore[arg-type]
    if error is None:
        call.answer({})
    else:
        call.fail(error)
    call.ended_ns = call.started_ns + took_ns
    return call


def counted(latencies_ns: list[int]) -> Statistics:
    statistics = Statistics()
    for took_ns in latencies_ns:
        statistics.count(ended(took_ns))
    return statistics


@given(
    st.lists(st.integers(2_000, 10**10), min_size=1, max_size=50), st.sampled_from([0.5, 0.9, 0.99])
)
def test_a_quantile_is_known_to_five_percent(latencies_ns: list[int], share: float) -> None:
    """The reported quantile lies at the true one or at most one bucket above."""
    true_ns = float(np.quantile(latencies_ns, share, method="inverted_cdf"))
    assert true_ns * 0.999 <= counted(latencies_ns).report().quantile_ns(share) <= true_ns * 1.05


@given(st.lists(st.lists(st.integers(1_000, 10**9), max_size=20), max_size=4))
def test_reports_of_several_processes_add_up(parts: list[list[int]]) -> None:
    """What workers have counted apart is the same as if one had counted it all."""
    whole = counted([took_ns for part in parts for took_ns in part]).report()
    assert merge(counted(part).report() for part in parts) == whole


def test_a_report_survives_the_way_between_processes() -> None:
    """Encoded and decoded again it is the same."""
    statistics = counted([5_000, 70_000])
    statistics.count_batch(2, 900, time.monotonic_ns())
    statistics.count(ended(3_000, error=FAILED))
    statistics.count_refusal("queue_full")
    report = statistics.report()
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(report), type=Report) == report


def test_what_was_counted_since_an_earlier_report_is_the_difference() -> None:
    """A guard sees the calls of its own time only."""
    statistics = counted([5_000] * 10)
    before = statistics.report()
    statistics.count(ended(900_000, error=FAILED))
    statistics.count(ended(800_000))
    since = statistics.report().since(before)
    assert since.ok == (1, 800_000)
    assert since.otherwise == {"failed": (1, 900_000)}
    assert since.quantile_ns(0.01) == pytest.approx(800_000, rel=0.05)


def test_callers_who_left_say_nothing_about_latency() -> None:
    """A cancelled call is counted, and is in no quantile."""
    statistics = counted([10_000] * 3)
    statistics.count(ended(10**10, error=GONE))
    report = statistics.report()
    assert report.otherwise == {str(Outcome.CANCELLED): (1, 10**10)}
    assert report.quantile_ns(1.0) == pytest.approx(10_000, rel=0.05)


def test_protocols_see_calls_batches_and_waiting() -> None:
    """A report becomes the port's statistics, with batches by their rows."""
    statistics = counted([5_000, 7_000])
    statistics.count_batch(2, 900, time.monotonic_ns())
    statistics.count_waiting(2, 300)
    hit = ended(4_000, rows=3)
    statistics.count(hit)
    statistics.count_cache_hit(hit)
    statistics.count(ended(6_000, error=FAILED))
    report = statistics.report()
    assert abs(report.last_ms - time.time_ns() // 1_000_000) < 10_000
    assert report.statistics("churn", 3) == ServedStatistics(
        model="churn",
        version=3,
        rows=5,
        last_ms=report.last_ms,
        success=Spent(3, 16_000),
        fail=Spent(1, 6_000),
        queue=Spent(2, 300),
        compute=Spent(1, 900),
        cache_hit=Spent(1, 4_000),
        batches={2: Spent(1, 900)},
    )


def test_batches_of_any_size_take_bounded_memory() -> None:
    """Up to 1024 rows each number by itself, above that each power of two; none is left out."""
    statistics = Statistics()
    for rows in range(1, 10_001):
        statistics.count_batch(rows, 7, 0)
    report = statistics.report()
    assert report.compute == (10_000, 70_000)
    assert sorted(report.batches) == [*range(1, 1025), 2048, 4096, 8192]
    assert report.batches[1024] == (1024, 7 * 1024)
    assert report.batches[8192] == (1809, 7 * 1809)
