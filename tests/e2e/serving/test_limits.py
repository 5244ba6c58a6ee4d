"""Limits are exact: over workers, over nodes, over kills, over a registry that is away."""

import asyncio
import contextlib
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio as triton_grpc
from sklearn.linear_model import LinearRegression
from tritonclient.utils import InferenceServerException

from modelyard import Yard
from modelyard.core.config import load_config
from modelyard.core.limits import Limit, Standing
from modelyard.core.names import Reference
from tests.e2e.conftest import Command, Server, serving
from tests.outages import refusing

SAMPLE = np.arange(20, dtype=float).reshape(10, 2)
BODY = {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
INFER = "/v2/models/sum/infer"
CALLERS = 50


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    """The settings of a home whose registry is of every kind."""
    if request.param == "sqlite":
        return {}
    return {"MODELYARD_DATABASE_URL": str(request.getfixturevalue("postgres_url"))}


@dataclass(frozen=True)
class Stage:
    """A home with one model and one key, and how it is served."""

    yard: Yard
    home: Path
    key: str
    settings: dict[str, str]

    @contextlib.contextmanager
    def serving(self, workers: int = 4, home: Path | None = None) -> Iterator[Server]:
        environment = {**self.settings, "MODELYARD_OPEN": "false"}
        with serving(home or self.home, "--workers", workers, **environment) as server:
            yield server

    def limit(self, kind: str, amount: int, **more: object) -> Limit:
        return self.yard.registry.limits.set(kind, amount, actor="test", **more)  # type: ignore[arg-type]

    def standing(self) -> Standing:
        (standing,) = self.yard.registry.limits.standings()
        return standing


@contextlib.contextmanager
def staged(home: Path, settings: dict[str, str]) -> Iterator[Stage]:
    url = settings.get("MODELYARD_DATABASE_URL")
    with Yard(load_config({"home": home, "database_url": url})) as yard:
        model = LinearRegression().fit(SAMPLE, SAMPLE.sum(axis=1))
        yard.publish(model, name="sum", sample=SAMPLE)
        yard.deploy(Reference("sum", version=1))
        key = yard.registry.keys.create(name="test", actor="test")
        yield Stage(yard, home, key.text, settings)


@pytest.fixture
def stage(tmp_path: Path, settings: dict[str, str]) -> Iterator[Stage]:
    with staged(tmp_path / "home", settings) as stage:
        yield stage


class Crowd:
    """Callers at once, each on a connection of its own, until they have been refused often."""

    def __init__(self, stage: Stage, *servers: Server, refusals: int = 6) -> None:
        self.answers: Counter[str] = Counter()
        self.last: httpx.Response | None = None
        self._servers = servers
        self._headers = {"authorization": f"Bearer {stage.key}"}
        self._refusals = refusals

    def call(self, meanwhile: Callable[[], None] = lambda: None, after: int = 0) -> "Crowd":
        asyncio.run(self._call(meanwhile, after))
        return self

    async def _call(self, meanwhile: Callable[[], None], after: int) -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(CALLERS):
                group.create_task(self._ask(self._servers[number % len(self._servers)]))
            if after:
                while self.answers["200"] < after:
                    await asyncio.sleep(0.001)
                meanwhile()

    async def _ask(self, server: Server) -> None:
        refused = 0
        limits = httpx.Limits(max_connections=1)
        async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=30) as client:
            while refused < self._refusals:
                try:
                    answer = await client.post(INFER, json=BODY, headers=self._headers)
                except httpx.TransportError:
                    self.answers["lost"] += 1
                    continue
                self.answers[str(answer.status_code)] += 1
                if answer.status_code != 200:
                    refused += 1
                    self.last = answer


def wait_until(is_so: Callable[[], bool]) -> None:
    """The test's time limit bounds it."""
    while not is_so():
        time.sleep(0.02)


@pytest.mark.slow
def test_exactly_the_limit_succeeds(stage: Stage) -> None:
    """50 parallel callers, four workers, a quota of 1,000: exactly 1,000 calls succeed."""
    stage.limit("quota", 1000)
    with stage.serving() as server:
        crowd = Crowd(stage, server).call()
        assert crowd.answers == {"200": 1000, "429": CALLERS * 6}
        assert crowd.last is not None
        assert crowd.last.headers["x-ratelimit-limit-requests"] == "1000"
        assert crowd.last.headers["x-ratelimit-remaining-requests"] == "0"
        wait_until(lambda: stage.standing().spent == 1000)
        # Raised, it lets more through at once, and as many as it was raised by.
        stage.limit("quota", 1100)
        time.sleep(1.0)
        assert Crowd(stage, server).call().answers["200"] == 100
    assert (stage.standing().leased, stage.standing().left) == (0, 0)


@pytest.mark.slow
def test_exactly_the_limit_succeeds_over_grpc(tmp_path: Path) -> None:
    """The same quota holds for callers over gRPC."""
    with staged(tmp_path / "home", {}) as stage:
        stage.limit("quota", 500, per=["key"], period="month")
        with stage.serving() as server:
            answers = asyncio.run(call_over_grpc(server, stage.key))
            assert answers == {"OK": 500, "RESOURCE_EXHAUSTED": CALLERS * 6}


async def call_over_grpc(server: Server, key: str) -> Counter[str]:
    answers: Counter[str] = Counter()

    async def ask() -> None:
        async with triton_grpc.InferenceServerClient(server.grpc_address) as client:
            given = triton_grpc.InferInput("input", [1, 2], "FP32")
            given.set_data_from_numpy(np.ones((1, 2), np.float32))
            refused = 0
            while refused < 6:
                try:
                    await client.infer("sum", [given], headers={"authorization": f"Bearer {key}"})
                    answers["OK"] += 1
                except InferenceServerException as error:
                    answers[str(error.status()).removeprefix("StatusCode.")] += 1
                    refused += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(CALLERS):
            group.create_task(ask())
    return answers


@pytest.mark.slow
def test_a_killed_worker_keeps_nothing_and_overspends_nothing(stage: Stage) -> None:
    """Of two workers killed half-way, what they held is there for others, and no more than that."""
    stage.limit("quota", 1000)
    with stage.serving() as server:
        (told,) = Command(stage.home).json("status", **stage.settings)  # type: ignore[misc]
        pids = [worker["pid"] for worker in told["workers"]]

        def kill() -> None:
            for pid in pids[:2]:
                os.kill(pid, signal.SIGKILL)

        crowd = Crowd(stage, server).call(kill, after=300)
        wait_until(lambda: stage.standing().spent == 1000)
        # A call whose worker died between its charge and its answer is charged and was lost.
        assert 1000 - CALLERS <= crowd.answers["200"] <= 1000
        assert crowd.answers["200"] + crowd.answers["lost"] >= 1000
        assert Crowd(stage, server, refusals=1).call().answers["200"] == 0
        assert stage.standing().spent == 1000


@pytest.mark.slow
def test_two_nodes_share_one_quota(tmp_path: Path, postgres_url: str) -> None:
    """Two servers with a home each and one registry let through exactly the limit together."""
    settings = {"MODELYARD_DATABASE_URL": postgres_url}
    with staged(tmp_path / "one", settings) as stage:
        shutil.copytree(tmp_path / "one", tmp_path / "two", ignore=shutil.ignore_patterns("*.key"))
        stage.limit("quota", 1000)
        with stage.serving(2) as one, stage.serving(2, tmp_path / "two") as two:
            crowd = Crowd(stage, one, two).call()
            assert crowd.answers["200"] == 1000
            assert set(crowd.answers) == {"200", "429"}


@pytest.mark.slow
def test_a_restarted_server_goes_on_where_it_was(tmp_path: Path) -> None:
    """Ended, and killed with all its workers: what was spent is spent, and what was not is not."""
    with staged(tmp_path / "home", {}) as stage:
        stage.limit("quota", 400)
        with stage.serving(2) as server:
            first = Crowd(stage, server, refusals=1)
            with contextlib.suppress(BaseExceptionGroup):
                first.call(lambda: kill_all(server.pid), after=150)
        with stage.serving(2) as server:
            again = Crowd(stage, server).call()
            wait_until(lambda: stage.standing().spent == 400)
        total = first.answers["200"] + again.answers["200"]
        assert 400 - CALLERS <= total <= 400


def kill_all(supervisor: int) -> None:
    import psutil

    main = psutil.Process(supervisor)
    for each in [main, *main.children(recursive=True)]:
        each.kill()
    raise RuntimeError


@pytest.mark.slow
def test_without_a_registry_calls_go_on_within_the_lease(
    tmp_path: Path, postgres_server: str, postgres_url: str
) -> None:
    """What is leased may be spent; then calls hear 503; and when it is back all is exact."""
    with staged(tmp_path / "home", {"MODELYARD_DATABASE_URL": postgres_url}) as stage:
        stage.limit("quota", 1000)
        with stage.serving(2) as server:
            headers = {"authorization": f"Bearer {stage.key}"}
            with httpx.Client(base_url=server.url, headers=headers, timeout=30) as client:
                assert client.post(INFER, json=BODY).status_code == 200
                with refusing(postgres_server, postgres_url):
                    meanwhile = Crowd(stage, server, refusals=2).call()
                assert set(meanwhile.answers) == {"200", "503"}
                assert 0 < meanwhile.answers["200"] < 999
                assert meanwhile.last is not None
                assert "quota" in meanwhile.last.text
                assert int(meanwhile.last.headers["retry-after"]) >= 1
                wait_until(lambda: client.post(INFER, json=BODY).status_code == 200)
            later = Crowd(stage, server, refusals=20).call()
            wait_until(lambda: stage.standing().spent == 1000)
            assert later.answers["200"] + meanwhile.answers["200"] + 2 == 1000


@pytest.mark.slow
def test_a_rate_is_not_multiplied_by_workers(tmp_path: Path) -> None:
    """Four workers let through one burst, and what a minute's rate gives meanwhile."""
    with staged(tmp_path / "home", {}) as stage:
        stage.limit("rate", 600, burst=100)
        with stage.serving() as server:
            began_s = time.monotonic()
            crowd = Crowd(stage, server).call()
            took_s = time.monotonic() - began_s
            assert 100 <= crowd.answers["200"] <= 100 + 10 * took_s + 1
            assert crowd.last is not None
            assert crowd.last.headers["retry-after"] == "1"
            assert crowd.last.headers["x-ratelimit-limit-requests"] == "600"
