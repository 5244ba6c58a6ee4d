"""Several workers behind one port: balanced, watched, replaced and drained without a lost call."""

import asyncio
import contextlib
import json
import os
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tritonclient.grpc.aio as triton_grpc
from sklearn.linear_model import LinearRegression

from modelyard import Yard
from modelyard.core.config import load_config
from modelyard.core.names import Reference
from tests.e2e.conftest import Command, Server, serving
from tests.e2e.serving.callers import Callers

SAMPLE = np.arange(20, dtype=float).reshape(10, 2)


def publish(yard: Yard, versions: int) -> None:
    for number in range(versions):
        model = LinearRegression().fit(SAMPLE, SAMPLE.sum(axis=1) + 1000 * number)
        yard.publish(model, name="sum", sample=SAMPLE)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with two versions of a model, of which the first is deployed."""
    home = tmp_path_factory.mktemp("workers") / "home"
    with Yard.open(home) as yard:
        publish(yard, 2)
        yard.deploy(Reference("sum", version=1))
    return home


@dataclass(frozen=True)
class Workers:
    """A running server with workers, and what it says of itself."""

    server: Server
    command: Command

    def callers(self, connections: int) -> Callers:
        return Callers(self.server.host, self.server.port, "sum", connections)

    def status(self) -> dict[str, Any]:
        (told,) = self.command.json("status")  # type: ignore[misc]
        return told

    def pids(self) -> list[int]:
        return [worker["pid"] for worker in self.status()["workers"]]

    def wait_until(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status of which something is so; the test's time limit bounds it."""
        while not is_so(told := self.status()):
            pass
        return told

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.server.pid, number)


@contextlib.contextmanager
def workers(home: Path, count: int, **environment: str) -> Iterator[Workers]:
    with serving(home, "--workers", count, **environment) as server:
        yield Workers(server, Command(home))


def all_ready(told: dict[str, Any]) -> bool:
    return all(worker["state"] == "ready" for worker in told["workers"])


def test_connections_are_shared_out_evenly(home: Path) -> None:
    """Of eight connections each of two workers holds four, and the counts are of both."""
    with workers(home, 2) as served, served.callers(8) as callers:
        told = served.status()
        assert [worker["connections"] for worker in told["workers"]] == [4, 4]
        (endpoint,) = told["endpoints"]
        assert endpoint["calls"] >= 80
        callers.wait_for(1000)
        assert callers.lost == 0


def test_a_killed_worker_costs_what_it_held_and_comes_back(home: Path) -> None:
    """Of eight callers the four of the dead worker lose one request each; no other notices."""
    with workers(home, 2) as served, served.callers(8) as callers:
        victim = served.pids()[0]
        os.kill(victim, signal.SIGKILL)
        told = served.wait_until(lambda told: len(told["workers"]) == 2 and all_ready(told))
        assert victim not in [worker["pid"] for worker in told["workers"]]
        assert [worker["restarts"] for worker in told["workers"]] == [1, 0]
        callers.wait_for(1000)
    assert callers.lost <= 4
    assert callers.unreachable == 0
    assert not callers.failed


def test_counts_survive_the_worker_that_counted(home: Path) -> None:
    """What was told of calls is not taken back when a worker dies."""
    with workers(home, 2) as served:
        with served.callers(4):
            pass
        before = served.status()["endpoints"][0]["calls"]
        os.kill(served.pids()[0], signal.SIGKILL)
        served.wait_until(lambda told: len(told["workers"]) == 2 and all_ready(told))
        assert served.status()["endpoints"][0]["calls"] == before


def test_workers_are_replaced_without_a_lost_call(home: Path) -> None:
    """SIGHUP: all workers are new, and kept-alive connections went over unharmed."""
    with workers(home, 2) as served, served.callers(16) as callers:
        before = set(served.pids())
        served.signal(signal.SIGHUP)
        served.wait_until(
            lambda told: (
                all_ready(told)
                and len(told["workers"]) == 2
                and before.isdisjoint(worker["pid"] for worker in told["workers"])
            )
        )
        callers.wait_for(1000)
        connections = [worker["connections"] for worker in served.status()["workers"]]
    assert sum(connections) == 16
    assert (callers.lost, callers.unreachable) == (0, 0)
    assert not callers.failed


def test_a_stop_answers_what_was_accepted(home: Path) -> None:
    """SIGTERM under load: no accepted request is lost, and every process ends."""
    with workers(home, 2) as served, served.callers(16) as callers:
        pids = served.pids()
        process = psutil.Process(served.server.pid)
        served.signal(signal.SIGTERM)
        process.wait(timeout=20)
        assert not any(psutil.pid_exists(pid) for pid in pids)
    assert callers.lost == 0
    assert not callers.failed


def test_workers_go_with_their_supervisor(home: Path) -> None:
    """Even a supervisor that is killed leaves no worker behind, and no address taken."""
    with workers(home, 2) as served:
        children = [psutil.Process(pid) for pid in served.pids()]
        served.signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive
        with serving(home, "--port", served.server.port, "--grpc-port", served.server.grpc_port):
            assert [told["pid"] for told in served.command.json("status")] != [served.server.pid]


def test_a_second_server_is_told_which_port_is_taken(home: Path, modelyard: Any) -> None:
    """Both ports are refused, though workers share the one for gRPC among themselves."""
    with workers(home, 2) as served:
        http = modelyard("serve", "--port", served.server.port, "--grpc-port", 0, status=1)
        grpc = modelyard("serve", "--port", 0, "--grpc-port", served.server.grpc_port, status=1)
    address = f"127.0.0.1:{served.server.port}"
    assert http.stderr.decode().splitlines()[-1].startswith(f"error: cannot listen on {address}")
    address = f"127.0.0.1:{served.server.grpc_port}"
    told = grpc.stderr.decode().splitlines()[-1]
    assert told.startswith(f"error: gRPC cannot listen on {address}")


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_a_route_change_is_in_force_in_every_worker(
    tmp_path: Path, request: pytest.FixtureRequest, database: str
) -> None:
    """A second after a deploy no worker answers with the old version."""
    home = tmp_path / "home"
    settings = {}
    if database == "postgresql":
        settings["database_url"] = request.getfixturevalue("postgres_url")
    environment = {f"MODELYARD_{name.upper()}": value for name, value in settings.items()}
    with Yard(load_config({"home": home, **settings})) as yard:
        publish(yard, 2)
        yard.deploy(Reference("sum", version=1))
        with workers(home, 3, **environment) as served, served.callers(6) as callers:
            for number in (2, 1):
                yard.deploy(Reference("sum", version=number))
                time.sleep(1)
                seen = callers.versions.copy()
                callers.wait_for(600)
                assert set(callers.versions - seen) == {str(number)}
        assert callers.lost == 0


def test_status_shows_the_server_and_its_parts(home: Path) -> None:
    """As text for eyes and as JSON for programs; and an error where no server runs."""
    with workers(home, 2) as served:
        with served.callers(2):
            told = served.status()
            text = served.command("status").stdout.decode()
        assert told["url"] == served.server.url
        assert told["pid"] == served.server.pid
        assert all(worker["pss_bytes"] > 10**7 for worker in told["workers"])
        assert told["endpoints"][0]["places"] == ["worker"]
        assert f"HTTP    {served.server.url}" in text
        assert "sum:1     100%   worker" in text
    done = served.command("status", status=1)
    assert b"no server runs on" in done.stderr


def test_a_server_whose_worker_cannot_start_says_why(tmp_path: Path) -> None:
    """What a worker refuses to start with is what the command says."""
    done = Command(tmp_path / "home")(
        "serve",
        "--port",
        0,
        "--grpc-port",
        0,
        status=1,
        MODELYARD_DATABASE_URL="postgresql+psycopg://nobody@127.0.0.1:1/none",
    )
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("error: the registry")
    assert b"Traceback" not in done.stderr


def test_grpc_calls_outlive_a_replacement(home: Path) -> None:
    """SIGHUP under gRPC load: channels move to the new workers, and no call fails."""
    answered = 0

    async def call(address: str, done: asyncio.Event) -> None:
        nonlocal answered
        given = triton_grpc.InferInput("input", [1, 2], "FP32")
        given.set_data_from_numpy(np.array([[1, 2]], np.float32))
        async with triton_grpc.InferenceServerClient(address) as client:
            while not done.is_set():
                answer = await client.infer("sum", [given])
                assert round(float(answer.as_numpy("prediction")[0, 0])) == 3
                answered += 1

    async def load(served: Workers) -> None:
        done = asyncio.Event()
        async with asyncio.TaskGroup() as calling:
            for _ in range(4):
                calling.create_task(call(served.server.grpc_address, done))
            before = set(await asyncio.to_thread(served.pids))
            served.signal(signal.SIGHUP)
            await asyncio.to_thread(
                served.wait_until,
                lambda told: (
                    all_ready(told)
                    and len(told["workers"]) == 2
                    and before.isdisjoint(worker["pid"] for worker in told["workers"])
                ),
            )
            wanted = answered + 100
            while answered < wanted:
                await asyncio.sleep(0.01)
            done.set()

    with workers(home, 2) as served:
        asyncio.run(load(served))


def test_operations_are_those_of_all_workers(tmp_path: Path) -> None:
    """Statistics count what either worker answered; load and unload return when both have moved."""

    def post(url: str) -> Any:
        return urllib.request.urlopen(urllib.request.Request(url, b"{}"), timeout=30).read()

    with Yard.open(tmp_path) as yard:
        publish(yard, 1)
    with workers(tmp_path, 2) as served:
        url = f"{served.server.url}/v2"
        post(f"{url}/repository/models/sum/load")
        with served.callers(4) as callers:
            callers.wait_for(40)
        assert callers.versions.keys() == {"1"}
        assert not callers.failed
        for _ in range(4):
            told = json.load(urllib.request.urlopen(f"{url}/models/sum/stats", timeout=30))
            (line,) = told["model_stats"]
            assert line["inference_stats"]["success"]["count"] == callers.answered
        post(f"{url}/repository/models/sum/unload")
        for _ in range(4):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(f"{url}/models/sum", timeout=30)
