import shutil
from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.load import LoadFailed, require_wrk
from benchmarks.measure import check_answers, measure_server, running
from benchmarks.model import Case, Model, with_one_answer
from benchmarks.peer import Launch, Peer, Ports, WrongAnswer
from benchmarks.peers.limits import GrpcEcho, HttpEcho
from benchmarks.processes import ServerDied
from benchmarks.run import Settings, chosen

RIGHT = {"sum": np.array([[3.0]], np.float32)}
WRONG = {"sum": np.array([[4.0]], np.float32)}


def a_model(*answers: dict[str, np.ndarray]) -> Model:
    cases = [
        Case({"input": np.array([[float(row)]], np.float32)}, answer)
        for row, answer in enumerate(answers)
    ]
    return Model("m", Path(), Path(), None, (), cases)


@pytest.mark.parametrize("peer", [HttpEcho(), GrpcEcho(processes=2)])
def test_a_server_with_right_answers_is_measured(peer: Peer, tmp_path: Path) -> None:
    """From a start to a point over each protocol: first answer, speed, both sides' cost, memory."""
    if shutil.which("wrk") is None:
        pytest.skip("wrk is not installed")
    model = with_one_answer(a_model(RIGHT, WRONG))
    peer.prepare(model, tmp_path)
    (form,) = peer.forms(model)
    said: list[str] = []
    seen = measure_server(
        peer, model, tmp_path, [form], [2], seconds=1, warm_up_s=0, say=said.append
    )
    point = seen.rounds[form.name, 2]
    assert 0 < seen.cold_start_s < 20
    assert seen.memory.pss > 5e6
    assert point.errors == 0
    assert point.per_second > 50
    assert point.server_cpu_us > 0
    assert point.client_cpu_us > 0
    assert len(said) == 1


def test_a_wrong_first_answer_fails_the_start(tmp_path: Path) -> None:
    """A server that answers something else is not measured at all."""
    peer = HttpEcho()
    peer.prepare(a_model(RIGHT), tmp_path)
    with (
        pytest.raises(WrongAnswer, match="echo, json, row 0"),
        running(peer, a_model(WRONG), tmp_path),
    ):
        pass


@pytest.mark.parametrize("peer", [HttpEcho(), GrpcEcho(processes=1)])
def test_one_wrong_row_fails_the_check(peer: Peer, tmp_path: Path) -> None:
    """An answer that belongs to another row is found before anything is measured."""
    model = a_model(RIGHT, RIGHT, RIGHT, WRONG)
    peer.prepare(model, tmp_path)
    with running(peer, model, tmp_path) as server, pytest.raises(WrongAnswer, match="row 3"):
        check_answers(server, peer.forms(model)[0], connections=2)


def test_a_server_that_ends_at_once_is_not_waited_for(tmp_path: Path) -> None:
    """The start fails with the server's log instead of running into its time limit."""

    class Dying(HttpEcho):
        def launch(self, model: Model, folder: Path, ports: Ports) -> Launch:
            return Launch(["sh", "-c", "echo cannot open the model; exit 3"])

    with (
        pytest.raises(ServerDied, match="status 3; its log ends:\ncannot open the model"),
        running(Dying(), a_model(RIGHT), tmp_path),
    ):
        pass


def test_only_named_servers_are_chosen_and_the_baseline_always() -> None:
    """A ratio needs its baseline."""
    peers = [HttpEcho(name="base"), HttpEcho(name="ours"), HttpEcho(name="theirs")]
    assert [p.name for p in chosen(peers, Settings(servers=("ours",)), "base")] == ["base", "ours"]
    assert chosen(peers, Settings(), "base") == peers


def test_a_machine_without_wrk_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message is the command."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(LoadFailed, match="apt-get install -y wrk"):
        require_wrk()
    assert main([]) == 1


@pytest.mark.parametrize(
    ("arguments", "there_are"),
    [(["no_such"], "there are forest_http, net_http"), (["--servers", "nobody"], "there are ba")],
)
def test_a_name_that_is_not_there_is_a_bad_command(
    arguments: list[str], there_are: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2, with the names that there are."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert there_are in capsys.readouterr().err
