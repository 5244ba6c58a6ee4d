"""Where the models of a real server run, and what becomes of it when one of them dies or hangs."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
from sklearn.linear_model import LinearRegression

from modelyard import Client, Yard
from modelyard.core.names import Reference
from tests.e2e.conftest import Command, Server
from tests.e2e.serving.callers import Callers

SAMPLE = np.arange(20, dtype=float).reshape(10, 2)
StartServer = Callable[..., Server]


def publish(home: Path, *names: str) -> None:
    """Models that answer with the sum of a row."""
    with Yard.open(home) as yard:
        for name in names:
            model = LinearRegression().fit(SAMPLE, SAMPLE.sum(axis=1))
            yard.publish(model, name=name, sample=SAMPLE)
            yard.deploy(Reference(name, version=1))


def status(home: Path) -> dict[str, Any]:
    (told,) = Command(home).json("status")  # type: ignore[misc]
    return told


def index(server: Server) -> dict[str, dict[str, Any]]:
    with Client(server.url) as client:
        return {line["name"]: line for line in client.models()}


def answers(server: Server, name: str) -> list[float]:
    """Of ten connections, so that every worker is asked."""
    values = []
    for _ in range(10):
        with Client(server.url) as client:
            values.append(float(client.predict(name, [[1.0, 2.0]])[0]))
    return values


def test_a_heavy_model_lives_once_for_all_workers(
    tmp_path: Path, start_server: StartServer
) -> None:
    """What costs more than a hop gets one process that every worker uses; a light one gets none."""
    home = tmp_path / "home"
    publish(home, "sum")
    server = start_server(home, "--workers", 2, MODELYARD_PROCESS_US="0")
    np.testing.assert_allclose(answers(server, "sum"), 3.0, atol=1e-4)
    told = status(home)
    (process,) = told["processes"]
    assert process["place"]["name"] == "sum:1"
    assert process["place"]["users"] == 2
    (endpoint,) = told["endpoints"]
    assert endpoint["places"] == [f"process {process['place']['pid']}"]
    light = tmp_path / "light"
    publish(light, "sum")
    server = start_server(light, "--workers", 2)
    np.testing.assert_allclose(answers(server, "sum"), 3.0, atol=1e-4)
    assert status(light)["processes"] == []


def test_isolation_gives_even_a_lone_worker_a_process(
    tmp_path: Path, start_server: StartServer
) -> None:
    """`isolation = process` holds for any model and number of workers, and ends with the route."""
    home = tmp_path / "home"
    publish(home, "sum", "other")
    server = start_server(home, "--workers", 1, MODELYARD_ISOLATION="process")
    np.testing.assert_allclose(answers(server, "sum"), 3.0, atol=1e-4)
    pids = {each["place"]["name"]: each["place"]["pid"] for each in status(home)["processes"]}
    assert pids.keys() == {"sum:1", "other:1"}
    ending = psutil.Process(pids["sum:1"])
    Command(home)("undeploy", "sum")
    _, alive = psutil.wait_procs([ending], timeout=30)
    assert alive == []
    assert psutil.pid_exists(pids["other:1"])


def test_a_killed_model_process_is_seen_told_and_mended(
    tmp_path: Path, start_server: StartServer
) -> None:
    """While it is away calls wait for it and the index says why; others never fail."""
    home = tmp_path / "home"
    publish(home, "sum", "other")
    server = start_server(home, "--workers", 2, MODELYARD_PLACE="process")
    pid = next(
        each["place"]["pid"]
        for each in status(home)["processes"]
        if each["place"]["name"] == "sum:1"
    )
    body = {"inputs": [{"name": "input", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}]}
    with Client(server.url) as client:
        body["inputs"][0]["datatype"] = client.metadata("sum")["inputs"][0]["datatype"]
    done = threading.Event()
    statuses: dict[str, list[int]] = {"other": [], "health": []}

    def keep_asking() -> None:
        with httpx.Client(base_url=server.url) as client:
            while not done.is_set():
                other = client.post("/v2/models/other/infer", json=body)
                statuses["other"].append(other.status_code)
                statuses["health"].append(client.get("/v2/health/live").status_code)

    asking = threading.Thread(target=keep_asking)
    asking.start()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=server.url))
        stack.callback(asking.join)
        stack.callback(done.set)
        assert client.post("/v2/models/sum/infer", json=body).status_code == 200
        os.kill(pid, signal.SIGKILL)
        # On a busy machine it may be back before anybody has looked.
        give_up_s = time.monotonic() + 5
        while (line := index_line(client, "sum"))["state"] == "READY":
            if time.monotonic() > give_up_s:
                break
        else:
            assert line["state"] == "UNAVAILABLE"
            assert "is being started again" in line["reason"]
        assert client.post("/v2/models/sum/infer", json=body).status_code == 200
        np.testing.assert_allclose(answers(server, "sum"), 3.0, atol=1e-4)
    assert set(statuses["other"]) == set(statuses["health"]) == {200}
    restarts = {
        each["place"]["name"]: each["place"]["restarts"] for each in status(home)["processes"]
    }
    assert restarts == {"sum:1": 1, "other:1": 0}


def index_line(client: httpx.Client, name: str) -> dict[str, Any]:
    lines = client.post("/v2/repository/index").json()
    return next(line for line in lines if line["name"] == name)


HANGS = """
import os
import time

if os.environ.get("HANGS"):
    from modelyard.runtimes import open as opening
    from modelyard.serving import loading

    really_open = opening.open_runtime

    def open_runtime(bundle, *, threads=1):
        if bundle.manifest.name == "hang":
            time.sleep(1000)
        return really_open(bundle, threads=threads)

    loading.open_runtime = open_runtime
"""


def test_a_load_that_hangs_delays_nobody(tmp_path: Path, start_server: StartServer) -> None:
    """While a process hangs over its load, others are deployed and answer, and the server ends."""
    (tmp_path / "usercustomize.py").write_text(HANGS)
    home = tmp_path / "home"
    publish(home, "sum", "hang")
    server = start_server(
        home,
        "--workers",
        2,
        HANGS="1",
        PYTHONPATH=os.pathsep.join((str(tmp_path), os.environ.get("PYTHONPATH", ""))),
        MODELYARD_PLACE="process",
        MODELYARD_DRAIN_S="1",
    )
    np.testing.assert_allclose(answers(server, "sum"), 3.0, atol=1e-4)
    publish(home, "later")
    while index(server).get("later", {}).get("state") != "READY":
        pass
    np.testing.assert_allclose(answers(server, "later"), 3.0, atol=1e-4)
    processes = [psutil.Process(each["place"]["pid"]) for each in status(home)["processes"]]
    assert len(processes) == 3
    os.kill(server.pid, signal.SIGTERM)
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == []


def test_nothing_outlives_a_supervisor_that_is_killed(
    tmp_path: Path, start_server: StartServer
) -> None:
    """Model processes end with their owner, however it ended."""
    home = tmp_path / "home"
    publish(home, "sum")
    server = start_server(home, "--workers", 2, MODELYARD_PLACE="process")
    told = status(home)
    pids = [each["place"]["pid"] for each in told["processes"]]
    pids += [each["pid"] for each in told["workers"]]
    assert len(pids) == 3
    processes = [psutil.Process(pid) for pid in pids]
    os.kill(server.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(processes, timeout=20)
    assert alive == [], json.dumps(told)


def test_a_worker_that_dies_leaves_its_places_and_finds_them_again(
    tmp_path: Path, start_server: StartServer
) -> None:
    """The model's process goes on for the others, and for the worker that comes instead."""
    home = tmp_path / "home"
    publish(home, "sum")
    server = start_server(home, "--workers", 2, MODELYARD_PLACE="process")
    before = status(home)
    killed = before["workers"][0]["pid"]
    os.kill(killed, signal.SIGKILL)
    while True:
        told = status(home)
        workers = {each["pid"]: each["state"] for each in told["workers"]}
        if killed not in workers and list(workers.values()) == ["ready", "ready"]:
            break
    assert told["processes"][0]["place"]["users"] == 2
    assert told["processes"][0]["place"]["pid"] == before["processes"][0]["place"]["pid"]
    np.testing.assert_allclose(answers(server, "sum"), 3.0, atol=1e-4)


def test_swaps_between_processes_lose_no_call(tmp_path: Path, start_server: StartServer) -> None:
    """The old version's process answers what it holds, then ends; no call fails on the way."""
    home = tmp_path / "home"
    publish(home, "sum")
    server = start_server(home, "--workers", 2, MODELYARD_PLACE="process", MODELYARD_POLL_S="0.02")
    with Yard.open(home) as yard:
        for _ in range(4):
            model = LinearRegression().fit(SAMPLE, SAMPLE.sum(axis=1))
            yard.publish(model, name="sum", sample=SAMPLE)
        with Callers(server.host, server.port, "sum", 4) as callers:
            for number in (2, 3, 4, 5):
                yard.deploy(Reference("sum", version=number))
                while str(number) not in callers.versions:
                    callers.wait_for(10)
    assert callers.failed == {}
    assert callers.lost == 0
    while len(status(home)["processes"]) > 1:
        pass
