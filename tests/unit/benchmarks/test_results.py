import io
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from benchmarks.forest_http import GOALS
from benchmarks.goals import Goal, aim, judge
from benchmarks.load import Load
from benchmarks.machine import Commit, describe_commit, describe_machine
from benchmarks.measure import to_round
from benchmarks.peer import WrongAnswer
from benchmarks.results import (
    FOLDER,
    Method,
    Report,
    Round,
    compare,
    decode_report,
    encode_report,
    figure,
    save_report,
    summarise,
)
from benchmarks.run import to_points
from benchmarks.table import print_report


def a_round(per_second: float = 1000, *, p50_ms: float = 1, errors: int = 0) -> Round:
    return Round(
        per_second=per_second,
        p50_ms=p50_ms,
        p99_ms=2,
        max_ms=3,
        requests=int(per_second),
        errors=errors,
        server_cpu_us=100,
        client_cpu_us=10,
        client_busy=0.1,
        others_busy=0.0,
    )


def a_report(**changes: object) -> Report:
    base = {("fastapi", "json", c): [a_round(1000), a_round(500)] for c in (1, 64)}
    ours = {
        ("modelyard", "v2 json", c): [a_round(9000, p50_ms=0.2), a_round(4000, p50_ms=0.3)]
        for c in (1, 64)
    }
    both = base | ours
    report = Report(
        benchmark="forest_http",
        question="How fast?",
        command="python -m benchmarks",
        date=datetime(2026, 11, 22, tzinfo=UTC),
        machine=describe_machine(),
        commit=Commit("0" * 40, dirty=False),
        method=Method(5, 1, 2, [1, 64], "fastapi"),
        servers={"fastapi": "theirs", "modelyard": "ours"},
        figures=[
            figure("modelyard", "cold start", "s", [1.0, 1.2]),
            figure("modelyard", "memory (PSS)", "MB", [160, 170]),
        ],
        points=to_points(both, "fastapi"),
    )
    return msgspec.structs.replace(report, **changes)


def test_a_ratio_is_of_rounds_of_the_same_minute() -> None:
    """A machine at half its speed in one round changes no ratio."""
    mine = [a_round(4000), a_round(2000), a_round(400)]
    theirs = [a_round(1000), a_round(500), a_round(100)]
    assert compare(mine, theirs).per_second == 4


def test_errors_add_up_where_the_rest_is_a_median() -> None:
    """One round with failed requests is not voted away by two without."""
    middle = summarise([a_round(10), a_round(30, errors=7), a_round(20)])
    assert (middle.per_second, middle.per_second_low, middle.per_second_high) == (20, 10, 30)
    assert middle.errors == 7


def test_every_point_is_compared_at_its_own_number_of_connections() -> None:
    """The baseline has ratio 1 to itself and stands beside points of as many connections."""
    names = [("base", "json", 1), ("ours", "v2", 1), ("base", "json", 8), ("ours", "v2", 8)]
    rounds = [[a_round(speed)] for speed in (100, 300, 1000, 2000)]
    points = to_points(dict(zip(names, rounds, strict=True)), "base")
    assert [point.ratio and point.ratio.per_second for point in points] == [1, 3, 1, 2]


def test_what_nobody_here_used_is_counted_as_others() -> None:
    """Processor time that neither server nor generator explains is noise, as a share."""
    load = Load(2.0, 1000, 1, 2, 3, bad_statuses=1, socket_errors=2, client_cpu_s=0.5)
    each = to_round(load, server_cpu_s=1.5, busy_s=3.0, capacity_s=4.0)
    assert each.server_cpu_us == 1500
    assert each.client_cpu_us == 500
    assert each.client_busy == 0.25
    assert each.others_busy == 0.25
    assert each.errors == 3


def test_a_load_without_an_answer_is_no_point() -> None:
    """Nothing answered is a failed run, not a speed of zero."""
    load = Load(2.0, 0, 0, 0, 0, bad_statuses=0, socket_errors=0, client_cpu_s=0.5)
    with pytest.raises(WrongAnswer):
        to_round(load, server_cpu_s=0, busy_s=0, capacity_s=4.0)


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    """What is written is what was found, to five digits."""
    report = a_report()
    path = save_report(report, tmp_path)
    again = decode_report(path.read_bytes())
    assert path.name == "forest_http.json"
    assert decode_report(encode_report(again)) == again
    assert again.point("modelyard", "v2 json", 64).median.per_second == 6500


def test_a_file_of_another_kind_is_refused() -> None:
    """A report says what it is, and nothing else is read as one."""
    with pytest.raises(msgspec.ValidationError):
        decode_report(encode_report(a_report(schema="modelyard.benchmark/0")))
    with pytest.raises(msgspec.ValidationError):
        decode_report(b"{}")


def test_committed_results_can_be_read() -> None:
    """Every result in the repository is of today's schema, without a failed request."""
    for path in FOLDER.glob("*.json"):
        report = decode_report(path.read_bytes())
        assert report.benchmark == path.stem
        assert report.errors == 0


def test_aims_are_written_down_met_or_missed() -> None:
    """8.5 times FastAPI's is less than nine and said to be; who was not measured has no verdict."""
    aims = judge(GOALS, a_report())
    assert [(verdict.met, verdict.value) for verdict in aims] == [
        (False, 8.5),
        (True, 0.25),
        (False, 1.0),
    ]
    assert aims[0].text.endswith("over FastAPI's: at least 9")


def test_an_aim_is_held_against_the_best_of_several() -> None:
    """A limit has more than one setting, and each number of connections its own best one."""
    rounds = {
        ("ours", "json", 8): [a_round(90)],
        ("limit", "one lane", 8): [a_round(50)],
        ("limit", "two lanes", 8): [a_round(100)],
    }
    lanes = [("limit", "one lane"), ("limit", "two lanes")]
    goal = Goal("ours", ("ours", "json"), lanes, 8, "per_second", at_least=0.95)
    (verdict,) = judge([goal], a_report(points=to_points(rounds, None)))
    assert verdict.value == 0.9
    assert not verdict.met


def test_a_bound_itself_is_met() -> None:
    """At least and at most both take their bound; an aim without one is a mistake."""
    assert aim("a", 2, at_least=2).met
    assert aim("a", 2, at_most=2).met
    with pytest.raises(ValueError, match="no bound"):
        aim("a", 2)


def test_fewer_rounds_are_compared_with_the_first_ones() -> None:
    """A slow peer's one round stands against the baseline's round of the same minutes."""
    assert compare([a_round(300)], [a_round(100), a_round(1000)]).per_second == 3


def test_only_our_own_errors_fail_a_run() -> None:
    """A peer that refuses under load is reported so; that is no failure of the run."""
    ours, theirs = ("modelyard", "v2 json", 64), ("mlflow", "json", 64)
    report = a_report(points=to_points({theirs: [a_round(errors=5)]}, None))
    assert report.errors == 0
    assert a_report(points=to_points({ours: [a_round(errors=5)]}, None)).errors == 5


def test_the_tables_show_losses_and_noise() -> None:
    """Missed aims, failed requests, missing peers and a busy machine are on the page."""
    rounds = [msgspec.structs.replace(a_round(errors=77), others_busy=0.3, client_busy=0.99)]
    report = a_report(
        points=to_points({("modelyard", "v2 json", 1): rounds}, None),
        aims=judge(GOALS, a_report()),
        left_out={"torchserve": "no Java runtime\nlog"},
    )
    console = Console(width=140, record=True, file=io.StringIO())
    print_report(report, console)
    text = console.export_text()
    assert (
        "missed  forest, JSON, 64 connections: requests/s over FastAPI's: at least 9: 8.5" in text
    )
    assert "77" in text
    assert "left out  torchserve: no Java runtime" in text
    assert "others used up to 30% of the machine at 1 of 1 points" in text
    assert "the load generator's core was full at modelyard v2 json at 1" in text


def test_a_folder_that_is_no_checkout_is_never_clean(tmp_path: Path) -> None:
    """Numbers whose source nobody can name are marked."""
    assert describe_commit(tmp_path) == Commit("unknown", dirty=True)
