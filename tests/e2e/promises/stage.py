"""A server with workers under steady traffic, and models whose answers say who gave them."""

import asyncio
import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Set
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import psutil
from onnx import helper

from modelyard import Yard
from modelyard.api.grpc.messages import ModelInferRequest, ModelInferResponse
from modelyard.core.config import load_config
from modelyard.core.datatypes import Datatype
from modelyard.core.names import Reference
from modelyard.core.signature import Signature
from modelyard.serving.supervision.desk import ask_servers
from modelyard.testing.traffic import Ask, Driven, Plan, Tally, driving
from tests.e2e.conftest import PATIENCE_S, Server, serving
from tests.graphs import ROWS, bundle_of, constant, model_of, value

ASKED = range(16)
_LOOK_S = 0.05
INFER = "/inference.GRPCInferenceService/ModelInfer"
Made = tuple[onnx.ModelProto, Signature]
Asks = tuple[Ask, ...]


@dataclass(frozen=True)
class Stage:
    """A home and its yard, and a server with workers that follows it."""

    folder: Path
    yard: Yard
    server: Server

    def publish(self, name: str, *made: Made) -> None:
        """Publish models as the next versions of a name."""
        publish(self.yard, self.folder, name, *made)

    def deploy(self, name: str, version: int, **more: Any) -> None:
        """Deploy a version, and wait until every worker answers with it."""
        self.yard.deploy(Reference(name, version=version), **more)
        self.settle(name)

    def rollback(self, name: str) -> None:
        """Roll back, and wait until it is in force in every worker."""
        self.yard.rollback(name)
        self.settle(name)

    def settle(self, name: str) -> None:
        """Wait until every worker follows the present route of a model."""
        url = f"{self.server.url}/v2/repository/models/{name}/load"
        httpx.post(url, timeout=PATIENCE_S).raise_for_status()

    def status(self) -> dict[str, Any]:
        """What the server tells `modelyard status` of itself."""
        (told,) = asyncio.run(ask_servers(self.server.home, "overview", PATIENCE_S))
        return dict(told)

    def pids(self) -> set[int]:
        """The processes of its workers."""
        return {worker["pid"] for worker in self.status()["workers"]}

    def wait_until(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first status of which something is so; the test's time limit bounds it."""
        while not is_so(told := self.status()):
            time.sleep(_LOOK_S)
        return told

    def signal(self, number: signal.Signals) -> None:
        """Signal the server."""
        os.kill(self.server.pid, number)

    def wait_for_end(self, timeout_s: float) -> int:
        """Until the server has ended; its exit status."""
        status = psutil.Process(self.server.pid).wait(timeout_s)
        assert status is not None
        return int(status)


@dataclass(frozen=True)
class Load:
    """Steady traffic over HTTP and over gRPC at once, each from a process of its own."""

    http: Driven
    grpc: Driven

    @property
    def tallies(self) -> tuple[Tally, Tally]:
        """The latest of both."""
        return self.http.tally, self.grpc.tally

    def more(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait for so many further good answers over each."""
        goals = [tally.good + count for tally in self.tallies]
        for driven, goal in zip((self.http, self.grpc), goals, strict=True):
            driven.wait(partial(_has, goal), timeout_s)

    def stop(self) -> tuple[Tally, Tally]:
        """Stop both, and say what became of all their requests."""
        return self.http.stop(), self.grpc.stop()


def _has(goal: int, tally: Tally) -> bool:
    return tally.good >= goal


@contextlib.contextmanager
def staged(
    folder: Path,
    *,
    workers: int = 2,
    models: Mapping[str, tuple[Made, ...]] | None = None,
    settings: Mapping[str, object] | None = None,
    options: Mapping[str, object] | None = None,
    home: Path | None = None,
) -> Iterator[Stage]:
    """A server with workers on a new home, where models are published and their first deployed.

    Looks at the registry often, so that tests are quick; `settings` are the server's and the
    yard's, `options` those of every route.
    """
    given = {"poll_s": 0.05, **(settings or {})}
    home = home or folder / "home"
    environment = {f"MODELYARD_{name.upper()}": str(value) for name, value in given.items()}
    with Yard(load_config({"home": home, **given})) as yard:
        for name, made in (models or {}).items():
            publish(yard, folder, name, *made)
            yard.deploy(Reference(name, version=1), options=options)
        with serving(home, "--workers", workers, **environment) as server:
            yield Stage(folder, yard, server)


@contextlib.contextmanager
def loaded(
    server: Server,
    name: str,
    offsets: Mapping[int, float],
    *,
    per_second: float = 300.0,
    headers: tuple[str, ...] = (),
) -> Iterator[Load]:
    """Calls of an `offset` model, whose versions add these numbers; some were answered already."""
    http = Plan(
        f"{server.url}/v2/models/{name}/infer",
        http_asks(name, offsets),
        connections=8,
        per_second=per_second,
        headers=headers,
    )
    grpc = Plan(
        f"grpc://{server.grpc_address}{INFER}",
        grpc_asks(name, offsets),
        connections=4,
        per_second=per_second / 2,
        headers=headers,
    )
    with driving(http) as over_http, driving(grpc) as over_grpc:
        load = Load(over_http, over_grpc)
        load.more(50)
        yield load


class Leaver:
    """A caller that does not wait for its answer."""

    def __init__(self, connection: socket.socket, request: bytes) -> None:
        self._connection = connection
        self._request = request

    def begin(self) -> None:
        """Ask."""
        self._connection.sendall(self._request)

    @property
    def is_answered(self) -> bool:
        """Whether anything has come, the connection's end included."""
        return bool(select.select([self._connection], [], [], 0)[0])

    def leave(self) -> None:
        """Hang up."""
        self._connection.close()


@contextlib.contextmanager
def leaver(
    server: Server, model: str, number: float, headers: Mapping[str, str] | None = None
) -> Iterator[Leaver]:
    """A caller with a connection and one row to send."""
    body = http_body(number)
    lines = [f"{name}: {text}\r\n" for name, text in (headers or {}).items()]
    head = f"POST /v2/models/{model}/infer HTTP/1.1\r\nHost: t\r\n{''.join(lines)}"
    with socket.create_connection((server.host, server.port)) as connection:
        yield Leaver(
            connection, b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body)
        )


def all_new(told: Mapping[str, Any], before: Set[int], workers: int) -> bool:
    """Whether a status shows so many workers that are ready, and none of those before."""
    now = told["workers"]
    return (
        len(now) == workers
        and all(worker["state"] == "ready" for worker in now)
        and before.isdisjoint(worker["pid"] for worker in now)
    )


def offset(by: float) -> Made:
    """Gives each number back, that much larger."""
    model = model_of(
        [helper.make_node("Add", ["x", "by"], ["y"])],
        [value("x", Datatype.FP32, ["n", 1])],
        [value("y", Datatype.FP32, ["n", 1])],
        [constant("by", np.array(by, np.float32))],
    )
    return model, ROWS


def publish(yard: Yard, folder: Path, name: str, *made: Made) -> None:
    """Publish models as the next versions of a name."""
    for each in made:
        number = len(list((folder / name).glob("*"))) + 1
        yard.registry.publish(bundle_of(folder / name / str(number), *each, name), actor="test")


def http_asks(name: str, offsets: Mapping[int, float]) -> Asks:
    """Requests of one row each, and what each version answers to them, to the last byte."""
    return tuple(
        Ask(
            http_body(number),
            {
                str(version): b'{"model_name":"%b","model_version":"%d","outputs":'
                b'[{"name":"y","datatype":"FP32","shape":[1,1],"data":[%.1f]}]}'
                % (name.encode(), version, number + by)
                for version, by in offsets.items()
            },
        )
        for number in ASKED
    )


def http_body(number: float) -> bytes:
    """One row for an `offset` model."""
    return b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[%.1f]}]}' % number


def grpc_asks(name: str, offsets: Mapping[int, float]) -> Asks:
    """The same over gRPC."""
    return tuple(
        Ask(
            grpc_request(name, number),
            {
                str(version): _grpc_answer(name, version, number + by)
                for version, by in offsets.items()
            },
        )
        for number in ASKED
    )


def grpc_request(name: str, number: float) -> bytes:
    """One row for an `offset` model."""
    request = ModelInferRequest(model_name=name)
    request.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    request.raw_input_contents.append(np.float32(number).tobytes())
    return request.SerializeToString()


def _grpc_answer(name: str, version: int, number: float) -> bytes:
    answer = ModelInferResponse(model_name=name, model_version=str(version))
    answer.outputs.add(name="y", datatype="FP32", shape=[1, 1])
    answer.raw_output_contents.append(np.float32(number).tobytes())
    return answer.SerializeToString()
