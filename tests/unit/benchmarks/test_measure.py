import shutil
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.limits import ECHO, Echo
from benchmarks.load import LoadFailed, require_wrk
from benchmarks.measure import check_answers, measure_point, running
from benchmarks.peer import Answer, Forest, Launch, WrongAnswer
from benchmarks.processes import ServerDied
from benchmarks.run import Settings, chosen


def a_forest(*answers: Answer) -> Forest:
    rows = [{"a": float(index)} for index in range(len(answers))]
    return Forest(Path(), Path(), Path(), rows, answers)


def test_a_server_with_right_answers_is_measured(tmp_path: Path) -> None:
    """From a start to a point: time to the first answer, speed, processor time of both sides."""
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    peer, forest = Echo(), a_forest(ECHO, ECHO)
    with running(peer, forest, tmp_path) as server:
        assert 0 < server.cold_start_s < 20
        check_answers(server, peer.forms[0], forest, connections=4)
        point = measure_point(server, peer.forms[0], forest, 4, seconds=1, warm_up_s=1)
    assert point.errors == 0
    assert point.per_second > 100
    assert point.server_cpu_us > 0
    assert point.client_cpu_us > 0


def test_a_wrong_first_answer_fails_the_start(tmp_path: Path) -> None:
    """A server that answers something else is not measured at all."""
    wrong = Answer(0, ECHO.probabilities)
    with (
        pytest.raises(WrongAnswer, match="echo, json, row 0"),
        running(Echo(), a_forest(wrong), tmp_path),
    ):
        pass


def test_one_wrong_row_fails_the_check(tmp_path: Path) -> None:
    """An answer that belongs to another row is found before anything is measured."""
    forest = a_forest(ECHO, ECHO, ECHO, Answer(0, [1, 0]))
    with (
        running(Echo(), forest, tmp_path) as server,
        pytest.raises(WrongAnswer, match="row 3"),
    ):
        check_answers(server, server.peer.forms[0], forest, connections=2)


def test_a_server_that_ends_at_once_is_not_waited_for(tmp_path: Path) -> None:
    """The start fails with the server's log instead of running into its time limit."""

    class Dying(Echo):
        def launch(self, port: int) -> Launch:
            return Launch(["sh", "-c", "echo cannot open the model; exit 3"])

    with (
        pytest.raises(ServerDied, match="status 3; its log ends:\ncannot open the model"),
        running(Dying(), a_forest(ECHO), tmp_path),
    ):
        pass


def test_only_known_servers_are_chosen_and_the_baseline_always() -> None:
    """A ratio needs its baseline; a name that nobody has is an error that lists the names."""
    peers = [Echo(name="base"), Echo(name="ours"), Echo(name="theirs")]
    assert [p.name for p in chosen(peers, Settings(servers=("ours",)), "base")] == ["base", "ours"]
    assert chosen(peers, Settings(), "base") == peers
    with pytest.raises(LookupError, match="no server strange; there are base, ours, theirs"):
        chosen(peers, Settings(servers=("strange",)), "base")


def test_a_machine_without_wrk_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the command."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LoadFailed, match="apt-get install -y wrk"):
        require_wrk()
    assert main([]) == 1


def test_a_benchmark_that_is_not_there_is_a_bad_command(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2, with the names that there are."""
    with pytest.raises(SystemExit) as ended:
        main(["no_such"])
    assert ended.value.code == 2
    assert "there are forest_http, limits" in capsys.readouterr().err
