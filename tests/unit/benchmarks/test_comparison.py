import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks.comparison import Comparison, compare_servers
from benchmarks.in_process import measure_batches, measure_queue
from benchmarks.model import Model, make_model
from benchmarks.peer import Launch, NotPrepared, Ports
from benchmarks.peers.limits import HttpEcho
from benchmarks.results import Report, Round
from benchmarks.run import Key, Settings

SETTINGS = Settings(seconds=1, warm_up_s=0, rounds=2, connections=(1, 2, 4))


@dataclass(frozen=True)
class NotInstalled(HttpEcho):
    name: str = "not-installed"

    def prepare(self, model: Model, folder: Path) -> None:
        raise NotPrepared("no wheel for this Python")


@dataclass(frozen=True)
class Dying(HttpEcho):
    name: str = "dying"

    def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
        return Launch(["sh", "-c", "echo no such option; exit 2"])


@dataclass(frozen=True)
class Wrong(HttpEcho):
    """An echo that is asked as if it had a model."""

    name: str = "wrong"


@pytest.fixture(scope="module")
def report() -> Report:
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")

    def alone(model: Model, settings: Settings) -> Mapping[Key, list[Round]]:
        found = [measure_queue(model, lanes=2, threads=1, callers=4, seconds=0.3)]
        return {("onnxruntime", "2 lanes", 4): found}

    comparison = Comparison(
        "test",
        "Is everybody written down?",
        "small",
        [HttpEcho(), NotInstalled(), Dying(), Wrong()],
        "echo",
        frozenset({"echo"}),
        goals=(),
        in_process=lambda model, settings, _: alone(model, settings),
    )
    return compare_servers(comparison, SETTINGS, say=lambda _: None)


def test_who_fails_is_written_down_with_the_reason(report: Report) -> None:
    """A peer that cannot be installed, started or believed is no gap in the table."""
    assert report.left_out["not-installed"] == "no wheel for this Python"
    assert "no such option" in report.left_out["dying"]
    assert "onnxruntime" in report.left_out["wrong"]
    assert set(report.left_out) == {"not-installed", "dying", "wrong"}


def test_who_works_is_measured_all_the_same(report: Report) -> None:
    """Every round at every number of connections, cold start and memory, no errors."""
    measured = [point for point in report.points if point.server == "echo"]
    assert [point.connections for point in measured] == [1, 2, 4]
    assert all(len(point.rounds) == 2 and not point.median.errors for point in measured)
    assert len(report.figure("echo", "cold start").rounds) == 2
    assert report.figure("echo", "memory (PSS)").median > 5


def test_the_model_alone_stands_in_the_same_table(report: Report) -> None:
    """The ideal queue's point is compared with the baseline as any server's is."""
    point = report.point("onnxruntime", "2 lanes", 4)
    assert point.median.per_second > 1_000
    assert 0 < point.median.p50_ms <= point.median.p99_ms
    assert point.ratio is not None


def test_batches_are_measured_by_their_size(tmp_path: Path) -> None:
    """Rows a second for a row, eight and thirty-two at a time."""
    model = make_model("small", tmp_path)
    speeds = measure_batches(model, 0.1)
    assert set(speeds) == {"1", "8", "32"}
    assert speeds["32"] > speeds["1"] > 1_000
