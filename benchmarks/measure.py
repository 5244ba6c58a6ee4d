"""Measuring servers: right answers first, then cold start, memory and load."""

import asyncio
import http.client
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.load import Load, run_load
from benchmarks.peer import Answer, Forest, Form, Peer, WrongAnswer
from benchmarks.processes import Memory, ServerProcess, free_port, machine_busy
from benchmarks.results import Round

_START_S = 30
_POLL_S = 0.002


@dataclass(frozen=True)
class Running:
    """A peer that has given its first correct answer."""

    peer: Peer
    process: ServerProcess
    port: int
    cold_start_s: float

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"


@contextmanager
def running(peer: Peer, forest: Forest, folder: Path) -> Iterator[Running]:
    """Start a peer, wait for its first correct answer, and stop it afterwards."""
    port = free_port()
    launch = peer.launch(port)
    started = time.perf_counter()
    with ServerProcess(launch.command, folder / f"{peer.name}.log", launch.environment) as process:
        _await_answer(peer, process, port, forest, started)
        yield Running(peer, process, port, time.perf_counter() - started)


def _await_answer(
    peer: Peer, process: ServerProcess, port: int, forest: Forest, started: float
) -> None:
    form = peer.forms[0]
    body, headers = form.encode(forest.rows[0])
    refusal = ""
    while time.perf_counter() - started < _START_S:
        process.check()
        answer = _post(port, form, body, dict(headers))
        if isinstance(answer, Answer):
            _require(peer, form, 0, answer, forest)
            return
        refusal = answer
        time.sleep(_POLL_S)
    raise WrongAnswer(
        f"{peer.name} gave no answer within {_START_S} s, last: {refusal}; its log ends:\n"
        f"{process.log_end()}"
    )


def _post(port: int, form: Form, body: bytes, headers: dict[str, str]) -> Answer | str:
    """One request on a connection of its own; or why it got no answer, while not ready."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_START_S)
    try:
        connection.request("POST", form.path, body, headers)
        response = connection.getresponse()
        content = response.read()
        if response.status != http.client.OK:
            return f"status {response.status}: {content[:500]!r}"
        lower = {name.lower(): value for name, value in response.getheaders()}
        return form.decode(content, lower)
    except (ConnectionError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def check_answers(server: Running, form: Form, forest: Forest, connections: int) -> None:
    """Ask all rows over so many connections at once; raises `WrongAnswer` at the first bad one.

    Each connection asks other rows than its neighbours, so that answers given to the wrong
    caller are seen.
    """
    asyncio.run(_check_answers(server, form, forest, connections))


async def _check_answers(server: Running, form: Form, forest: Forest, connections: int) -> None:
    limits = httpx.Limits(max_connections=connections)
    rows = len(forest.rows)
    each = max(4, rows // connections)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=30) as client:

        async def ask(start: int) -> None:
            for turn in range(each):
                await _check_row(client, server.peer, form, forest, (start + turn) % rows)

        await asyncio.gather(*(ask(index * each) for index in range(connections)))


async def _check_row(
    client: httpx.AsyncClient, peer: Peer, form: Form, forest: Forest, index: int
) -> None:
    body, headers = form.encode(forest.rows[index])
    response = await client.post(form.path, content=body, headers=dict(headers))
    if response.status_code != httpx.codes.OK:
        raise WrongAnswer(
            f"{peer.name}, {form.name}: status {response.status_code}: {response.text[:500]}"
        )
    _require(peer, form, index, form.decode(response.content, response.headers), forest)


def _require(peer: Peer, form: Form, index: int, answer: Answer, forest: Forest) -> None:
    if not answer.is_close(forest.answers[index]):
        raise WrongAnswer(
            f"{peer.name}, {form.name}, row {index}: answered {answer}, "
            f"onnxruntime {forest.answers[index]}"
        )


def measure_point(
    server: Running, form: Form, forest: Forest, connections: int, *, seconds: int, warm_up_s: int
) -> Round:
    """Warm up, then load for `seconds`; what server, generator and others used of the machine."""
    _load(server, form, forest, connections, warm_up_s)
    cpu_before = server.process.cpu_s()
    started = time.perf_counter()
    with machine_busy() as busy:
        load = _load(server, form, forest, connections, seconds)
    # Longer than the load itself, by wrk's own start and end.
    elapsed_s = time.perf_counter() - started
    cpu_s = server.process.cpu_s() - cpu_before
    server.process.check()
    capacity_s = elapsed_s * (psutil.cpu_count() or 1)
    return to_round(load, cpu_s, busy_s=busy[0], capacity_s=capacity_s)


def to_round(load: Load, server_cpu_s: float, *, busy_s: float, capacity_s: float) -> Round:
    """One round from what was counted. Raises `WrongAnswer` where nothing was answered.

    `busy_s` is what the whole machine worked meanwhile, `capacity_s` what it could have worked.
    """
    if load.requests == 0:
        raise WrongAnswer("the server answered nothing under load")
    others_s = max(0.0, busy_s - server_cpu_s - load.client_cpu_s)
    return Round(
        per_second=load.per_second,
        p50_ms=load.p50_ms,
        p99_ms=load.p99_ms,
        max_ms=load.max_ms,
        requests=load.requests,
        errors=load.errors,
        server_cpu_us=server_cpu_s / load.requests * 1e6,
        client_cpu_us=load.client_cpu_s / load.requests * 1e6,
        client_busy=load.client_cpu_s / load.seconds,
        others_busy=others_s / capacity_s,
    )


def measure_alone(
    peer: Peer, forest: Forest, folder: Path, *, connections: int, seconds: int
) -> tuple[float, Memory]:
    """Cold start in seconds, and memory after load in every form, with no other server running.

    Alone, because a page that two servers share would count half for each.
    """
    with running(peer, forest, folder) as server:
        for form in peer.forms:
            check_answers(server, form, forest, connections)
            _load(server, form, forest, connections, seconds)
        return server.cold_start_s, server.process.memory()


def _load(server: Running, form: Form, forest: Forest, connections: int, seconds: int) -> Load:
    requests = [form.encode(row) for row in forest.rows]
    bodies = [body for body, _ in requests]
    headers = dict(requests[0][1])
    if any(dict(others) != headers for _, others in requests):
        raise ValueError(f"{form.name}: the load sends the same headers with every row")
    return run_load(
        server.url, form.path, headers, bodies, connections=connections, seconds=seconds
    )
