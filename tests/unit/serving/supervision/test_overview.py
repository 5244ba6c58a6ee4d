import pytest

from modelyard.serving.report import Load, Report, State
from modelyard.serving.supervision.overview import (
    Ledger,
    Problem,
    WorkerReport,
    endpoint_lines,
    problems,
)


def state(answered: int, *, version: int = 1, place: str = "worker") -> State:
    return State(
        model="churn",
        version=version,
        digest="sha256:1",
        platform="onnxruntime_onnx",
        trouble=None,
        open_calls=1,
        load=Load(place=place, queued_rows=2),
        report=Report(ok=(answered, 1000 * answered), latency={160: answered}),
    )


def test_counts_are_added_up_over_workers() -> None:
    """Calls, queues and places of a version are those of all workers together."""
    ledger = Ledger(0.0)
    ledger.note(1, WorkerReport(endpoints=[state(3)]))
    ledger.note(2, WorkerReport(endpoints=[state(4, place="process 7")]))
    (line,) = endpoint_lines(ledger, 10.0)
    assert (line.calls, line.open_calls, line.queued_rows, line.workers) == (7, 2, 4, 2)
    assert line.places == ["process 7", "worker"]
    assert line.per_second == pytest.approx(0.7)
    assert line.p50_ms > 0


def test_no_total_goes_back_when_a_worker_goes() -> None:
    """Its last counts stay, as long as the version is served at all."""
    ledger = Ledger(0.0)
    ledger.note(1, WorkerReport(endpoints=[state(3)]))
    ledger.note(2, WorkerReport(endpoints=[state(4)]))
    ledger.bury(1)
    assert ledger.totals()["churn", 1].ok[0] == 7
    ledger.note(3, WorkerReport(endpoints=[state(1)]))
    assert ledger.totals()["churn", 1].ok[0] == 8
    for worker in (2, 3):
        ledger.note(worker, WorkerReport(endpoints=[state(0, version=2)]))
    assert list(ledger.totals()) == [("churn", 2)]
    ledger.note(2, WorkerReport(endpoints=[state(5)]))
    assert ledger.totals()["churn", 1].ok[0] == 5


def test_counts_outlive_all_workers() -> None:
    """When every worker dies at once, those that come after go on counting."""
    ledger = Ledger(0.0)
    ledger.note(1, WorkerReport(endpoints=[state(3)]))
    ledger.bury(1)
    assert ledger.totals() == {}
    ledger.note(2, WorkerReport(endpoints=[state(1)]))
    assert ledger.totals()["churn", 1].ok[0] == 4


def test_counts_outlive_a_worker_whose_successor_still_loads() -> None:
    """A version that is not served again yet, while another is, keeps what was counted."""
    ledger = Ledger(0.0)
    ledger.note(1, WorkerReport(endpoints=[state(3), state(4, version=2)]))
    ledger.bury(1)
    loading = [Problem("churn", 2, "it is being loaded")]
    ledger.note(2, WorkerReport(endpoints=[state(1)], problems=loading))
    assert list(ledger.totals()) == [("churn", 1)]
    ledger.note(2, WorkerReport(endpoints=[state(1), state(1, version=2)]))
    assert ledger.totals()["churn", 2].ok[0] == 5


def test_rates_are_of_the_last_two_samples() -> None:
    """What was counted before them does not show; a version that begins anew does."""
    ledger = Ledger(0.0)
    ledger.note(1, WorkerReport(endpoints=[state(100)]))
    ledger.sample(5.0)
    ledger.note(1, WorkerReport(endpoints=[state(110)]))
    ledger.sample(10.0)
    ledger.note(1, WorkerReport(endpoints=[state(130)]))
    (line,) = endpoint_lines(ledger, 15.0)
    assert line.per_second == pytest.approx(30 / 10)
    ledger.note(1, WorkerReport(endpoints=[state(5)]))
    (line,) = endpoint_lines(ledger, 15.0)
    assert line.per_second == pytest.approx(5 / 10)


def test_a_reason_is_told_once() -> None:
    """Workers that fail alike are one problem, not as many as there are workers."""
    broken = WorkerReport(problems=[Problem("churn", 2, "its file is damaged")])
    assert problems([broken, broken]) == [Problem("churn", 2, "its file is damaged")]
