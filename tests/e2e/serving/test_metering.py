"""What callers were answered is what is metered: over HTTP and gRPC, over kills, each call once."""

import asyncio
import contextlib
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from onnx import helper

from modelyard import Yard
from modelyard.core.call import Outcome
from modelyard.core.config import load_config
from modelyard.core.datatypes import Datatype
from modelyard.core.names import Reference
from modelyard.core.usage import Unit
from modelyard.serving.supervision.desk import ask_servers
from tests.e2e.conftest import PATIENCE_S, Command, Server, serving
from tests.e2e.promises.stage import (
    INFER,
    Made,
    grpc_request,
    http_body,
    offset,
    publish,
)
from tests.graphs import ROWS, constant, model_of, slow, value

FOR_EVER = 1e12
"""Turns of `slow` that nobody sees the end of."""


def picky() -> Made:
    """Fails for what lies outside of its table."""
    model = model_of(
        [
            helper.make_node("Cast", ["x"], ["place"], to=7),
            helper.make_node("Gather", ["table", "place"], ["y"]),
        ],
        [value("x", Datatype.FP32, ["n", 1])],
        [value("y", Datatype.FP32, ["n", 1])],
        [constant("table", np.zeros(4, np.float32))],
    )
    return model, ROWS


@dataclass(frozen=True)
class Stage:
    """A home with models, prices and a key, and its server of two workers."""

    yard: Yard
    server: Server
    key: str

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def call(self, model: str, number: float) -> int:
        """One row over HTTP; its status."""
        url = f"{self.server.url}/v2/models/{model}/infer"
        body = http_body(number)
        return httpx.post(url, content=body, headers=self.headers, timeout=30).status_code

    def status(self) -> dict[str, Any]:
        (told,) = asyncio.run(ask_servers(self.server.home, "overview", PATIENCE_S))
        return dict(told)

    def open_calls(self, model: str) -> int:
        lines = self.status()["endpoints"]
        return sum(int(line["open_calls"]) for line in lines if line["model"] == model)

    def outcomes(self, model: str) -> Counter[Outcome]:
        """How its calls ended, as far as that was copied."""
        lines = self.yard.registry.usage.report(("outcome",), model=model).lines
        return Counter({line.outcome: line.calls for line in lines if line.outcome is not None})


@pytest.fixture(params=["sqlite", "postgresql"])
def stage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stage]:
    settings = {"poll_s": 0.05}
    if request.param == "postgresql":
        settings["database_url"] = request.getfixturevalue("postgres_url")
    environment = {f"MODELYARD_{name.upper()}": str(each) for name, each in settings.items()}
    home = tmp_path / "home"
    with Yard(load_config({"home": home, **settings})) as yard:
        for name, made in (("sum", offset(1000.0)), ("slow", slow()), ("picky", picky())):
            publish(yard, tmp_path, name, made)
            yard.deploy(Reference(name, version=1))
        yard.deploy(Reference("slow"), options={"timeout_ms": 1500.0, "place": "process"})
        yard.registry.tariffs.set("sum", unit="row", price="0.25", actor="test")
        key = yard.registry.keys.create(name="test", actor="test")
        with serving(home, "--workers", 2, MODELYARD_OPEN="false", **environment) as server:
            yield Stage(yard, server, key.text)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_usage_is_what_callers_saw(stage: Stage) -> None:
    """However calls end, over HTTP and gRPC; what they cost; and nothing is left in the spool."""
    assert [stage.call("sum", number) for number in range(20)] == [200] * 20
    with grpc.insecure_channel(stage.server.grpc_address) as channel:
        infer = channel.unary_unary(INFER)
        metadata = tuple(stage.headers.items())
        for number in range(10):
            infer(grpc_request("sum", number), metadata=metadata, timeout=30)
        call = infer.future(grpc_request("slow", FOR_EVER), metadata=metadata, timeout=30)
        until(lambda: stage.open_calls("slow") == 1)
        call.cancel()
        until(lambda: stage.open_calls("slow") == 0)
    assert stage.call("picky", 2.0) == 200
    assert stage.call("picky", 2000.0) == 400
    assert stage.call("slow", FOR_EVER) == 504
    _leave(stage)
    stage.yard.registry.limits.set("quota", 1, models="picky", actor="test")
    well = refused = 1
    while (status := stage.call("picky", 1.0)) != 429:
        assert status == 200
        well += 1
    assert httpx.post(f"{stage.server.url}/v2/models/sum/infer").status_code == 401

    until(lambda: stage.outcomes("sum").total() == 30 and stage.outcomes("slow").total() == 3)
    assert stage.outcomes("sum") == {Outcome.OK: 30}
    (line,) = stage.yard.registry.usage.report(("key", "tenant"), model="sum").lines
    assert (line.unit, line.amount, line.cost) == (Unit.ROW, 30, 7_500_000_000)
    assert (line.key, line.tenant) == (stage.key.split("_")[1], "default")
    ends = stage.outcomes("slow")
    assert ends.pop(Outcome.TIMEOUT) == 1
    assert set(ends) <= {Outcome.CANCELLED, Outcome.CLIENT_GONE}
    assert ends[Outcome.CLIENT_GONE] >= 1
    # One that the model would not take, and those that the limit refused.
    until(lambda: stage.outcomes("picky") == {Outcome.OK: well, Outcome.REFUSED: 1 + refused})
    assert stage.yard.registry.usage.reconcile(stage.yard.config.home / "spool").differences == ()


def _leave(stage: Stage) -> None:
    """A caller that hangs up while its call runs."""
    body = http_body(FOR_EVER)
    head = (
        f"POST /v2/models/slow/infer HTTP/1.1\r\nHost: t\r\nAuthorization: Bearer {stage.key}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((stage.server.host, stage.server.port)) as connection:
        connection.sendall(head.encode() + body)
        until(lambda: stage.open_calls("slow") == 1)
    until(lambda: stage.open_calls("slow") == 0)


class Crowd:
    """Callers that never try again, and count what they were answered."""

    def __init__(self, stage: Stage) -> None:
        self.answered = 0
        self.sent = 0
        self.is_over = False
        self._stage = stage

    async def call(self, meanwhile: Callable[[], None]) -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(16):
                group.create_task(self._ask())
            for _ in range(2):
                before = self.answered
                while self.answered < before + 400:
                    await asyncio.sleep(0.005)
                meanwhile()
            before = self.answered
            while self.answered < before + 400:
                await asyncio.sleep(0.005)
            self.is_over = True

    async def _ask(self) -> None:
        url = f"{self._stage.server.url}/v2/models/sum/infer"
        async with httpx.AsyncClient(headers=self._stage.headers, timeout=30) as client:
            while not self.is_over:
                self.sent += 1
                with contextlib.suppress(httpx.TransportError):
                    response = await client.post(url, content=http_body(1.0))
                    self.answered += response.status_code == 200


def test_a_killed_worker_loses_no_answered_call(stage: Stage) -> None:
    """Every answer that a client got is in the usage once, and nothing that was never asked."""
    crowd = Crowd(stage)

    def kill() -> None:
        os.kill(stage.status()["workers"][0]["pid"], signal.SIGKILL)

    asyncio.run(crowd.call(lambda: _in_thread(kill)))
    os.kill(stage.server.pid, signal.SIGTERM)
    home = stage.yard.config.home
    command = Command(home)
    database = {"MODELYARD_DATABASE_URL": stage.yard.config.registry_url}
    until(lambda: not _is_alive(stage.server.pid))
    command("usage", "copy", **database)
    report = command.json("usage", "report", "--by", "outcome", **database)
    assert isinstance(report, dict)
    counted = {line["outcome"]: line["calls"] for line in report["lines"]}
    assert crowd.answered <= counted["ok"] <= sum(counted.values()) <= crowd.sent
    # Each of the two kills may have taken an answer from every caller.
    assert counted["ok"] - crowd.answered <= 2 * 16
    ids = [event.call for event in stage.yard.registry.usage.events()]
    assert len(ids) == len(set(ids)) == sum(counted.values())
    assert list((home / "spool").iterdir()) == []
    found = command.json("usage", "reconcile", **database)
    assert isinstance(found, dict)
    assert (found["waiting"], found["unrecorded"], found["differences"]) == (0, 0, [])


def _in_thread(act: Callable[[], None]) -> None:
    """The status is asked for by a loop of its own."""
    import threading

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False
