"""kill -9 of a worker, of a model process, of the supervisor: only what the dead held is lost."""

import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.e2e.conftest import PATIENCE_S, serving
from tests.e2e.promises.conftest import OFFSETS
from tests.e2e.promises.stage import Load, Stage, all_new, http_body, loaded, offset, staged
from tests.graphs import TURNS_A_SECOND, slow

SOON_S = 10.0
FOR_EVER = 1000.0 * TURNS_A_SECOND
HELD = 6


def test_a_killed_worker_costs_what_it_held(stage: Stage, load: Load) -> None:
    """At most one request of each of its connections; nothing is wrong, and it comes back."""
    workers = stage.status()["workers"]
    victim = max(workers, key=lambda worker: worker["connections"])
    psutil.Process(victim["pid"]).kill()
    load.more(200, SOON_S)
    stage.wait_until(lambda told: all_new(told, {victim["pid"]}, 2))
    load.more(200, SOON_S)
    http, grpc = load.stop()
    assert http.lost == http.bad <= victim["connections"] < load.http.plan.connections, http
    assert http.unconnected == 0, http
    # A caller may be back before the kernel has closed the dead worker's port: twice, then.
    assert grpc.lost == grpc.bad <= 2 * load.grpc.plan.connections, grpc


def test_a_model_process_killed_mid_batch_costs_its_batch(tmp_path: Path) -> None:
    """Who waits in it is told so with a 503; it comes back; no other model's caller notices."""
    models = {"sum": tuple(map(offset, OFFSETS.values())), "slow": (slow(),)}
    with (
        staged(tmp_path, models=models) as stage,
        loaded(stage.server, "sum", OFFSETS) as load,
    ):
        stage.deploy("slow", 1, options={"isolation": "process"})
        process = model_process(stage, "slow")
        url = f"{stage.server.url}/v2/models/slow/infer"
        answers: list[httpx.Response] = []

        def ask() -> None:
            answers.append(httpx.post(url, content=http_body(FOR_EVER), timeout=PATIENCE_S))

        asking = [threading.Thread(target=ask) for _ in range(HELD)]
        before_s = process.cpu_times().user
        for each in asking:
            each.start()
        wait_until(lambda: process.cpu_times().user > before_s + 0.3)
        process.kill()
        for each in asking:
            each.join(SOON_S)
        assert [answer.status_code for answer in answers] == [503] * HELD
        assert {answer.json()["code"] for answer in answers} == {"model_process_died"}
        assert all(answer.headers["retry-after"] for answer in answers)
        stage.wait_until(lambda told: told["processes"][0]["place"]["restarts"] == 1)
        wait_until(lambda: httpx.post(url, content=http_body(3)).status_code == 200)
        load.more(100)
        for tally in load.stop():
            assert (tally.bad, tally.unconnected) == (0, 0), tally


def test_a_killed_model_process_is_waited_for(tmp_path: Path) -> None:
    """Its own callers lose what it held at that moment, and nothing until it is back."""
    options = {"isolation": "process"}
    with (
        staged(tmp_path, models={"sum": (offset(OFFSETS[1]),)}, options=options) as stage,
        loaded(stage.server, "sum", OFFSETS, per_second=0) as load,
    ):
        model_process(stage, "sum").kill()
        load.more(200, SOON_S)
        http, grpc = load.stop()
        assert http.bad == http.statuses.get("503", 0) <= load.http.plan.connections, http
        assert grpc.bad == grpc.statuses.get("UNAVAILABLE", 0) <= load.grpc.plan.connections, grpc
        assert (http.unconnected, grpc.unconnected) == (0, 0)


def test_workers_end_well_when_their_supervisor_is_killed(stage: Stage, load: Load) -> None:
    """What they were asked they answer, then they go, and both ports are free for the next."""
    workers = [psutil.Process(pid) for pid in stage.pids()]
    stage.signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(workers, timeout=PATIENCE_S)
    assert not alive
    http, grpc = load.stop()
    assert (http.bad, grpc.bad) == (0, 0), (http, grpc)
    ports = "--port", stage.server.port, "--grpc-port", stage.server.grpc_port
    again = serving(stage.server.home, "--workers", 2, *ports)
    with again as server, loaded(server, "sum", OFFSETS):
        pass


def model_process(stage: Stage, name: str) -> psutil.Process:
    """The process of a model, once all workers send their calls there."""

    def is_there(told: dict[str, Any]) -> bool:
        return any(
            line["model"] == name and line["workers"] == 2 and "worker" not in line["places"]
            for line in told["endpoints"]
        )

    (process,) = stage.wait_until(is_there)["processes"]
    return psutil.Process(process["place"]["pid"])


def wait_until(is_so: Callable[[], bool]) -> None:
    """Until something is so; the test's time limit bounds it."""
    while not is_so():
        threading.Event().wait(0.02)
