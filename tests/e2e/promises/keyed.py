"""A keyed server with workers, what its callers were answered, and what it says of them later."""

import asyncio
import contextlib
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import psutil

from modelyard import Yard
from modelyard.core.call import Outcome
from modelyard.core.config import load_config
from modelyard.core.limits import Limit, Standing
from modelyard.core.names import Reference
from modelyard.core.records import IssuedKey
from modelyard.core.usage import Reconciliation, SpoolState
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

MODEL = "sum"
OFFSETS: Mapping[int, float] = {1: 1000.0, 2: 2000.0}
MODELS: Mapping[str, tuple[Made, ...]] = {MODEL: tuple(map(offset, OFFSETS.values()))}
PATH = f"/v2/models/{MODEL}/infer"


@dataclass(frozen=True)
class Keyed:
    """A home whose first version of each model is deployed, and how it is served."""

    folder: Path
    yard: Yard
    environment: Mapping[str, str]

    @property
    def home(self) -> Path:
        return self.yard.config.home

    @property
    def command(self) -> Command:
        return Command(self.home)

    @contextlib.contextmanager
    def serving(
        self, *, workers: int = 2, home: Path | None = None, **environment: str
    ) -> Iterator[Server]:
        """A server with keys; on a home of its own for another node."""
        settings = {**self.environment, "MODELYARD_OPEN": "false", **environment}
        with serving(home or self.home, "--workers", workers, **settings) as server:
            yield server

    def key(self, name: str = "test", **more: Any) -> IssuedKey:
        """A new key."""
        return self.yard.registry.keys.create(name=name, actor="test", **more)

    def limit(self, kind: str, amount: int, **more: Any) -> Limit:
        """Limit calls."""
        return self.yard.registry.limits.set(kind, amount, actor="test", **more)

    def standing(self, limit: Limit) -> Standing:
        """How a quota with one subject stands."""
        (found,) = (
            each for each in self.yard.registry.limits.standings() if each.limit == limit.id
        )
        return found

    def outcomes(self, key: IssuedKey, model: str | None = None) -> Counter[Outcome]:
        """How the calls of a key ended, as far as that was copied."""
        report = self.yard.registry.usage.report(("outcome",), key=key.record.id, model=model)
        return Counter({each.outcome: each.calls for each in report.lines if each.outcome})

    def reconcile(self) -> Reconciliation:
        """What the spools and the database say of each other."""
        return self.yard.registry.usage.reconcile(self.home / "spool")

    def assert_all_copied(self) -> None:
        """Nothing waits, nothing was lost, nothing differs, and no call is there twice."""
        found = self.reconcile()
        assert (found.waiting, found.unrecorded, found.damaged) == (0, 0, 0), found
        assert found.differences == ()
        ids = Counter(event.call for event in self.yard.registry.usage.events())
        assert [id for id, times in ids.items() if times > 1] == []
        assert ids.total() == found.copied

    def assert_audit_is_whole(self) -> None:
        """Whatever happened, nobody touched it."""
        verdict = self.yard.registry.trail.verify()
        assert verdict.is_whole, verdict.findings


@contextlib.contextmanager
def keyed(
    folder: Path,
    *,
    models: Mapping[str, tuple[Made, ...]] = MODELS,
    home: Path | None = None,
    options: Mapping[str, object] | None = None,
    **settings: object,
) -> Iterator[Keyed]:
    """A home, no server yet; `settings` are those of the yard and of every server."""
    given = {"poll_s": 0.05, **settings}
    environment = {f"MODELYARD_{name.upper()}": str(value) for name, value in given.items()}
    with Yard(load_config({"home": home or folder / "home", **given})) as yard:
        for name, made in models.items():
            publish(yard, folder, name, *made)
            yard.deploy(Reference(name, version=1), options=options)
        yield Keyed(folder, yard, environment)


def bearer(key: IssuedKey | str) -> dict[str, str]:
    """The header that a caller sends."""
    text = key if isinstance(key, str) else key.text
    return {"authorization": f"Bearer {text}"}


def header_line(key: IssuedKey) -> tuple[str, ...]:
    """The same for `Plan`."""
    return (f"Authorization: Bearer {key.text}",)


def call(server: Server, key: IssuedKey | str, number: float = 1.0, model: str = MODEL) -> int:
    """One row over HTTP; its status."""
    url = f"{server.url}/v2/models/{model}/infer"
    body = http_body(number)
    return httpx.post(url, content=body, headers=bearer(key), timeout=PATIENCE_S).status_code


def call_over_grpc(server: Server, key: IssuedKey | str, number: float = 1.0) -> grpc.StatusCode:
    """One row over gRPC; its status."""
    with grpc.insecure_channel(server.grpc_address) as channel:
        infer = channel.unary_unary(INFER)
        try:
            infer(
                grpc_request(MODEL, number),
                metadata=tuple(bearer(key).items()),
                timeout=PATIENCE_S,
            )
        except grpc.RpcError as error:
            code: Callable[[], grpc.StatusCode] = error.code  # type: ignore[attr-defined]
            return code()
    return grpc.StatusCode.OK


def status(server: Server) -> dict[str, Any]:
    """What a server tells of itself; the one of several on a home that has this pid."""
    told = asyncio.run(ask_servers(server.home, "overview", PATIENCE_S))
    (mine,) = (dict(each) for each in told if each["pid"] == server.pid)
    return mine


def spool_state(server: Server) -> SpoolState:
    """What it tells of its usage."""
    return SpoolState(**status(server)["usage"])


def open_calls(server: Server, model: str) -> int:
    """How many are running or waiting to."""
    lines = status(server)["endpoints"]
    return sum(int(line["open_calls"]) for line in lines if line["model"] == model)


def worker_pids(server: Server) -> list[int]:
    """The processes of its workers; also while it is too busy to say."""
    found = []
    for child in psutil.Process(server.pid).children():
        with contextlib.suppress(psutil.Error):
            if "modelyard.wiring.worker" in child.cmdline():
                found.append(child.pid)
    return found


def kill_node(server: Server) -> None:
    """The whole node, as by a power cut: nobody gets to say anything."""
    main = psutil.Process(server.pid)
    processes = [main, *main.children(recursive=True)]
    for each in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()
    psutil.wait_procs(processes[1:], timeout=PATIENCE_S)


def until(is_so: Callable[[], bool], patience_s: float = PATIENCE_S) -> None:
    """Until it is so, or too late."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be buried does not."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    return False


def stop(server: Server) -> None:
    """End it as an operator does, and wait until it has."""
    os.kill(server.pid, signal.SIGTERM)
    until(lambda: not is_alive(server.pid))
