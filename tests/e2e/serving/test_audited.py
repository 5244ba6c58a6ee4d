"""Every call to an audited model is in the audit, though the server is killed; changes over the
network say who asked, from where and by which request."""

import contextlib
import http.client
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from sklearn.linear_model import LinearRegression

from modelyard import Yard
from modelyard.core.config import load_config
from modelyard.core.names import Reference
from modelyard.core.policy import Policy
from tests.e2e.conftest import Command, Server, serving

_SAMPLE = np.arange(20, dtype=float).reshape(10, 2)
_BODY = json.dumps(
    {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home that audits the calls to `sum`, whose changes need two people, and not to `free`."""
    with open_yard(tmp_path / "home") as yard:
        for name in ("sum", "free"):
            model = LinearRegression().fit(_SAMPLE, _SAMPLE.sum(axis=1))
            for _ in range(2):
                yard.publish(model, name=name, sample=_SAMPLE)
                model = LinearRegression().fit(_SAMPLE, _SAMPLE.max(axis=1))
            yard.deploy(Reference(name, version=1))
        yard.registry.policies.set(
            Policy(audit_calls=("sum",), four_eyes=("sum",)), actor=yard.actor
        )
    return tmp_path / "home"


def open_yard(home: Path) -> Yard:
    """The home, on the machine itself."""
    return Yard(load_config({"home": home}))


@contextlib.contextmanager
def connected(server: Server) -> Iterator[http.client.HTTPConnection]:
    """A connection."""
    with contextlib.closing(http.client.HTTPConnection(server.host, server.port)) as connection:
        yield connection


def call(
    connection: http.client.HTTPConnection, path: str, key: str, body: object = _BODY
) -> tuple[int, dict[str, object]]:
    """The status and the answer."""
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    headers["x-request-id"] = f"r-{path.rsplit('/', 1)[-1]}"
    text = body if isinstance(body, str) else json.dumps(body)
    connection.request("POST", path, text, headers)
    with connection.getresponse() as answer:
        return answer.status, json.loads(answer.read())


def test_no_answered_call_is_missing(home: Path) -> None:
    """After a kill that nobody saw coming; each once, and none of another model."""
    with open_yard(home) as yard:
        caller = yard.registry.keys.create(name="scorer", actor=yard.actor)
    with serving(home, MODELYARD_OPEN="false") as server:
        with connected(server) as connection:
            for _ in range(30):
                for name in ("sum", "free"):
                    path = f"/v2/models/{name}/infer"
                    assert call(connection, path, caller.text)[0] == 200
        parent = psutil.Process(server.pid)
        for process in [*parent.children(recursive=True), parent]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        psutil.wait_procs([parent], timeout=10)
    Command(home)("usage", "copy")
    with open_yard(home) as yard:
        rows = yard.registry.trail.rows(kind="call", limit=1000)
        assert len({row.subject for row in rows}) == len(rows) == 30
        assert {(row.actor, row.key, row.model) for row in rows} == {
            ("scorer", caller.record.id, "sum")
        }
        assert yard.registry.trail.verify().is_whole


def test_a_change_over_the_network_is_approved_by_another_key(home: Path) -> None:
    """The rows name both people, their addresses and requests; a stopped server has signed all."""
    with open_yard(home) as yard:
        ann, bob = (
            yard.registry.keys.create(name=name, role="deployer", actor=yard.actor)
            for name in ("ann", "bob")
        )
    with serving(home, MODELYARD_OPEN="false") as server, connected(server) as connection:
        status, told = call(
            connection, "/api/v1/routes/sum/deploy", ann.text, {"number": 2, "reason": "better"}
        )
        assert (status, told["code"]) == (409, "approval_needed")
        assert call(connection, "/api/v1/routes/sum/deploy", "my_no_key", {"number": 2})[0] == 401
        with open_yard(home) as yard:
            [waiting] = yard.registry.approvals.list()
            assert waiting.asked_by.key == ann.record.id
            assert waiting.asked_by.source == "127.0.0.1"
            assert waiting.asked_by.request_id == "r-deploy"
    with open_yard(home) as yard:
        actor = waiting.asked_by.__class__(name="bob", key=bob.record.id, tenant="default")
        yard.registry.approvals.approve(waiting.id, actor=actor)
        assert yard.registry.routes()[1].number == 2
        [refused] = [row for row in yard.registry.trail.rows(kind="login") if not row.actor]
        assert (refused.source, refused.details["count"]) == ("127.0.0.1", 1)
        checkpoints = yard.registry.trail.checkpoints()
        assert checkpoints[-1].sequence >= refused.sequence
        assert yard.registry.trail.verify().is_whole
