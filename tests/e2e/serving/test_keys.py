"""Keys on a real server: revoked at once in every worker, good while the registry is down."""

import contextlib
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import psutil
import psycopg
from sklearn.linear_model import LinearRegression

from modelyard import Yard
from modelyard.api.grpc import messages
from modelyard.core.config import load_config
from modelyard.core.names import Reference
from tests.e2e.conftest import Server, serving

SAMPLE = np.arange(20, dtype=float).reshape(10, 2)
BODY = json.dumps(
    {"inputs": [{"name": "input", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
)
KEYED = {"MODELYARD_OPEN": "false"}


@contextlib.contextmanager
def yard_with_model(home: Path, database_url: str = "") -> Iterator[Yard]:
    """A yard in which `sum` is deployed."""
    with Yard(load_config({"home": home, "database_url": database_url or None})) as yard:
        model = LinearRegression().fit(SAMPLE, SAMPLE.sum(axis=1))
        yard.publish(model, name="sum", sample=SAMPLE)
        yard.deploy(Reference("sum", version=1))
        yield yard


def make_key(yard: Yard, **more: object) -> tuple[str, str]:
    """The id and the text of a new key."""
    issued = yard.registry.keys.create(name="test", actor="test", **more)  # type: ignore[arg-type]
    return issued.record.id, issued.text


class HttpCaller:
    """One connection, kept open."""

    def __init__(self, server: Server, key: str) -> None:
        self._connection = http.client.HTTPConnection(server.host, server.port, timeout=30)
        self._headers = {"authorization": f"Bearer {key}"}

    def __call__(self) -> int:
        """The status of one call."""
        path = "/v2/models/sum/infer"
        self._connection.request("POST", path, BODY, self._headers)
        with self._connection.getresponse() as answer:
            answer.read()
            return answer.status

    def close(self) -> None:
        self._connection.close()


class GrpcCaller:
    """One connection, kept open."""

    STATUSES = {  # noqa: RUF012 - a table
        grpc.StatusCode.UNAUTHENTICATED: 401,
        grpc.StatusCode.UNAVAILABLE: 503,
        grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    }

    def __init__(self, server: Server, key: str) -> None:
        # Else grpc shares one connection between all channels to an address.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.enable_retries", 0)]
        self._channel = grpc.insecure_channel(server.grpc_address, options)
        self._ask = self._channel.unary_unary(
            "/inference.GRPCInferenceService/ModelReady",
            request_serializer=messages.ModelReadyRequest.SerializeToString,
            response_deserializer=messages.ModelReadyResponse.FromString,
        )
        self._metadata = (("authorization", f"Bearer {key}"),)

    def __call__(self) -> int:
        """The status of one call, as HTTP would have it."""
        request = messages.ModelReadyRequest(name="sum")
        try:
            answer = self._ask(request, metadata=self._metadata, timeout=30)
        except grpc.RpcError as error:
            return self.STATUSES[error.code()]
        return 200 if answer.ready else 404

    def close(self) -> None:
        self._channel.close()


Caller = HttpCaller | GrpcCaller


@contextlib.contextmanager
def callers(make: Callable[[], Caller], count: int) -> Iterator[list[Caller]]:
    made = [make() for _ in range(count)]
    try:
        yield made
    finally:
        for caller in made:
            caller.close()


@dataclass
class Refusals:
    """When each of many callers was first refused, each in a thread of its own."""

    callers: list[Caller]

    def __post_init__(self) -> None:
        self.refused_at = [0.0] * len(self.callers)
        self.statuses: list[set[int]] = [set() for _ in self.callers]
        self._started = threading.Barrier(len(self.callers) + 1)
        self._threads = [
            threading.Thread(target=self._ask, args=(index,)) for index in range(len(self.callers))
        ]

    def start(self) -> None:
        """Returns when every caller has been answered once."""
        for thread in self._threads:
            thread.start()
        self._started.wait(60)

    def wait(self) -> None:
        """Until all were refused, and refused again: nobody is let in by another worker."""
        for thread in self._threads:
            thread.join(60)
        assert all(self.refused_at), self.statuses

    def _ask(self, index: int) -> None:
        caller = self.callers[index]
        assert caller() == 200
        self._started.wait(60)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if (status := caller()) != 200:
                self.refused_at[index] = time.monotonic()
                break
        self.statuses[index] = {status, *(caller() for _ in range(10))}


def test_a_revoked_key_is_dead_in_every_worker_within_a_second(
    tmp_path: Path,
) -> None:
    """Over both protocols, on connections that stay open; another key never notices."""
    with (
        yard_with_model(tmp_path / "home") as yard,
        serving(tmp_path / "home", "--workers", 4, **KEYED) as server,
    ):
        id, key = make_key(yard)
        _, other = make_key(yard)
        with (
            callers(lambda: HttpCaller(server, key), 8) as over_http,
            callers(lambda: GrpcCaller(server, key), 8) as over_grpc,
            callers(lambda: HttpCaller(server, other), 4) as others,
        ):
            for caller in [*over_http, *over_grpc, *others]:
                # A new key is known to each worker in its own time.
                until(lambda caller=caller: caller() == 200)  # type: ignore[misc]
            refusals = Refusals([*over_http, *over_grpc])
            refusals.start()
            yard.registry.keys.revoke(id, actor="test")
            revoked_at = time.monotonic()
            refusals.wait()
            took = max(refusals.refused_at) - revoked_at
            assert took < 1.0
            assert all(told <= {401, 429} for told in refusals.statuses)
            assert [caller() for caller in others] == [200] * 4


def test_keys_outlive_the_registry(tmp_path: Path, postgres_server: str, postgres_url: str) -> None:
    """Known keys go on, in workers that start meanwhile too; unknown ones hear that nobody can
    say; bad ones are bad; and when the registry is back all is as it says."""
    home = tmp_path / "home"
    setting = {"MODELYARD_DATABASE_URL": postgres_url, **KEYED}
    with (
        yard_with_model(home, postgres_url) as yard,
        serving(home, "--workers", 2, **setting) as server,
    ):
        _, key = make_key(yard)
        revoked_id, revoked = make_key(yard)
        # Two that are gone before the outage, each in its own way.
        yard.registry.keys.revoke(revoked_id, actor="test")
        _, expired = make_key(yard, lifetime_s=5.0)
        unknown = "my_" + "a" * 12 + "_" + "a" * 52
        status = status_of(server)
        until(lambda: status(key) == 200)
        until(lambda: status(expired) == 200)
        until(lambda: (home / "registry.snapshot").exists())
        until(lambda: is_in_snapshot(home, key))
        with outage(postgres_server, postgres_url):
            until(lambda: status(unknown) == 503)
            assert status(key) == 200
            assert status(revoked) == 401
            until(lambda: status(expired) == 401)
            before = worker_pids(server)
            assert len(before) == 2
            for pid in before:
                os.kill(pid, signal.SIGKILL)
            until(lambda: reached(lambda: status(key)) == 200)
            assert [status(key) for _ in range(8)] == [200] * 8
            assert [status(unknown) for _ in range(4)] == [503] * 4
            assert status(revoked) == 401
            with callers(lambda: GrpcCaller(server, key), 4) as over_grpc:
                assert [caller() for caller in over_grpc] == [200] * 4
        until(lambda: status(unknown) == 401)
        _, new = make_key(yard)
        until(lambda: status(new) == 200)


def status_of(server: Server) -> Callable[[str], int]:
    def status(key: str) -> int:
        caller = HttpCaller(server, key)
        try:
            return caller()
        finally:
            caller.close()

    return status


def reached(ask: Callable[[], int]) -> int:
    """What is answered; 0 where nobody is there, or is there no longer."""
    try:
        return ask()
    except (OSError, http.client.HTTPException):
        return 0


def until(is_so: Callable[[], bool]) -> None:
    """Until it is so; the test's own time limit bounds it."""
    while not is_so():
        time.sleep(0.02)


def is_in_snapshot(home: Path, key: str) -> bool:
    data = (home / "registry.snapshot").read_bytes()
    return key[3:15].encode() in data and b'"sum"' in data


def worker_pids(server: Server) -> list[int]:
    return [
        child.pid
        for child in psutil.Process(server.pid).children()
        if "modelyard.wiring.worker" in child.cmdline()
    ]


@contextlib.contextmanager
def outage(postgres_server: str, postgres_url: str) -> Iterator[None]:
    """While it lasts the database takes no connections, and has none."""
    name = postgres_url.split("@/")[1].split("?")[0]
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")  # type: ignore[arg-type]
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
        )
        try:
            yield
        finally:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")  # type: ignore[arg-type]
