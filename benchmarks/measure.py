"""Measuring one server: right answers first, then cold start, load and memory."""

import asyncio
import http.client
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from benchmarks.grpc_load import ask_grpc, run_grpc_load
from benchmarks.load import Load, LoadFailed, run_load
from benchmarks.model import Case, Model, Tensors, is_close
from benchmarks.peer import Form, Peer, Ports, WrongAnswer
from benchmarks.processes import Memory, ServerProcess, free_port, machine_busy
from benchmarks.results import Round

START_S = 60
_POLL_S = 0.002
_GRPC_POLL_S = 0.1
_SETTLE_S = 20
_LOOK_S = 0.2
_QUIET = 0.25
"""Share of a core that an idle server may use: some poll."""


@dataclass(frozen=True)
class Running:
    """A peer that has given its first correct answer."""

    peer: Peer
    model: Model
    process: ServerProcess
    ports: Ports
    cold_start_s: float

    @property
    def url(self) -> str:
        """Where it listens for HTTP."""
        return f"http://127.0.0.1:{self.ports.http}"

    @property
    def target(self) -> str:
        """Where it listens for gRPC."""
        return f"127.0.0.1:{self.ports.grpc}"


@contextmanager
def running(
    peer: Peer, model: Model, folder: Path, *, start_s: float = START_S
) -> Iterator[Running]:
    """Start a peer, wait for its first correct answer, and stop it afterwards."""
    ports = Ports(free_port(), free_port())
    launch = peer.launch(model, folder, ports)
    started = time.perf_counter()
    log = folder / f"{peer.name}.log"
    with ServerProcess(launch.command, log, launch.environment, launch.folder) as process:
        server = Running(peer, model, process, ports, 0)
        _await_answer(server, started, start_s)
        cold_start_s = time.perf_counter() - started
        _settle(process)
        yield Running(peer, model, process, ports, cold_start_s)


def _settle(process: ServerProcess) -> None:
    """Leave it alone until it is quiet: one worker answers while others may still be starting."""
    until = time.perf_counter() + _SETTLE_S
    before, used = process.cpu_s(), 1.0
    while used > _QUIET * _LOOK_S and time.perf_counter() < until:
        time.sleep(_LOOK_S)
        now = process.cpu_s()
        before, used = now, now - before


def _await_answer(server: Running, started: float, start_s: float) -> None:
    form = server.peer.forms(server.model)[0]
    first = server.model.cases[0]
    ask, poll_s = (_ask_grpc, _GRPC_POLL_S) if form.protocol == "grpc" else (_post, _POLL_S)
    refusal = ""
    while time.perf_counter() - started < start_s:
        server.process.check()
        answer = ask(server, form, first)
        if not isinstance(answer, str):
            _require(server, form, 0, answer)
            return
        refusal = answer
        time.sleep(poll_s)
    raise WrongAnswer(
        f"{server.peer.name} gave no answer within {start_s:.0f} s, last: {refusal}; "
        f"its log ends:\n{server.process.log_end()}"
    )


def _post(server: Running, form: Form, case: Case) -> Tensors | str:
    """One request on a connection of its own; or why it got no answer, while not ready."""
    body, headers = form.encode(case.inputs)
    connection = http.client.HTTPConnection("127.0.0.1", server.ports.http, timeout=START_S)
    try:
        connection.request("POST", form.path, body, dict(headers))
        response = connection.getresponse()
        content = response.read()
        if response.status != http.client.OK:
            return f"status {response.status}: {content[:500]!r}"
        lower = {name.lower(): value for name, value in response.getheaders()}
        return _decoded(server, form, content, lower)
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()


def _ask_grpc(server: Running, form: Form, case: Case) -> Tensors | str:
    try:
        (answer,) = ask_grpc(server.target, form.path, [form.encode(case.inputs)[0]], 1)
    except LoadFailed as error:
        return str(error)
    return _decoded(server, form, answer, {})


def _decoded(server: Running, form: Form, content: bytes, headers: dict[str, str]) -> Tensors:
    try:
        return form.decode(content, headers)
    except (LookupError, TypeError, ValueError) as error:
        raise WrongAnswer(
            f"{server.peer.name}, {form.name}: an answer that cannot be read ({error!r}): "
            f"{content[:300]!r}"
        ) from None


def check_answers(server: Running, form: Form, connections: int) -> None:
    """Ask all rows over so many connections at once; raises `WrongAnswer` at the first bad one.

    Each connection asks other rows than its neighbours, so that answers given to the wrong
    caller are seen.
    """
    if form.protocol == "grpc":
        _check_grpc(server, form, connections)
    else:
        asyncio.run(_check_http(server, form, connections))


def _check_grpc(server: Running, form: Form, connections: int) -> None:
    cases = server.model.cases
    bodies = [form.encode(case.inputs)[0] for case in cases] * -(-connections // len(cases))
    try:
        answers = ask_grpc(server.target, form.path, bodies, connections)
    except LoadFailed as error:
        raise WrongAnswer(f"{server.peer.name}, {form.name}: {error}") from None
    for index, answer in enumerate(answers):
        _require(server, form, index % len(cases), _decoded(server, form, answer, {}))


async def _check_http(server: Running, form: Form, connections: int) -> None:
    limits = httpx.Limits(max_connections=connections)
    rows = len(server.model.cases)
    each = max(2, rows // connections)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, timeout=30) as client:

        async def ask(start: int) -> None:
            for turn in range(each):
                await _check_row(client, server, form, (start + turn) % rows)

        try:
            await asyncio.gather(*(ask(index * each) for index in range(connections)))
        except httpx.HTTPError as error:
            raise WrongAnswer(f"{server.peer.name}, {form.name}: {error!r}") from None


async def _check_row(client: httpx.AsyncClient, server: Running, form: Form, index: int) -> None:
    body, headers = form.encode(server.model.cases[index].inputs)
    response = await client.post(form.path, content=body, headers=dict(headers))
    if response.status_code != httpx.codes.OK:
        raise WrongAnswer(
            f"{server.peer.name}, {form.name}: status {response.status_code}: {response.text[:500]}"
        )
    _require(server, form, index, _decoded(server, form, response.content, dict(response.headers)))


def _require(server: Running, form: Form, index: int, answer: Tensors) -> None:
    right = server.model.cases[index].outputs
    if not is_close(answer, right):
        raise WrongAnswer(
            f"{server.peer.name}, {form.name}, row {index}: answered {_short(answer)}, "
            f"onnxruntime {_short(right)}"
        )


def _short(tensors: Tensors) -> str:
    return ", ".join(f"{name} {array.reshape(-1)[:4]}" for name, array in tensors.items())


def measure_point(
    server: Running, form: Form, connections: int, *, seconds: int, warm_up_s: int
) -> Round:
    """Warm up, then load for `seconds`; what server, generator and others used of the machine."""

    def load(duration: int) -> Load:
        return load_form(server, form, connections, duration)

    return measure_load(server.process, load, seconds=seconds, warm_up_s=warm_up_s)


def measure_load(
    process: ServerProcess, load: Callable[[int], Load], *, seconds: int, warm_up_s: int
) -> Round:
    """The same for any load, given as a function of its seconds."""
    if warm_up_s:
        load(warm_up_s)
    cpu_before = process.cpu_s()
    started = time.perf_counter()
    with machine_busy() as busy:
        seen = load(seconds)
    # Longer than the load itself, by the generator's own start and end.
    elapsed_s = time.perf_counter() - started
    cpu_s = process.cpu_s() - cpu_before
    process.check()
    capacity_s = elapsed_s * (psutil.cpu_count() or 1)
    return to_round(seen, cpu_s, busy_s=busy[0], capacity_s=capacity_s)


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
        client_busy=load.client_cpu_s / load.seconds / load.client_processes,
        others_busy=others_s / capacity_s,
    )


def load_form(server: Running, form: Form, connections: int, seconds: int) -> Load:
    """All rows in turn, in one form."""
    requests = [form.encode(case.inputs) for case in server.model.cases]
    bodies = [body for body, _ in requests]
    if form.protocol == "grpc":
        return run_grpc_load(
            server.target, form.path, bodies, connections=connections, seconds=seconds
        )
    headers = dict(requests[0][1])
    if any(dict(others) != headers for _, others in requests):
        raise ValueError(f"{form.name}: the load sends the same headers with every row")
    asked = [(form.path, body) for body in bodies]
    return run_load(server.url, headers, asked, connections=connections, seconds=seconds)


@dataclass(frozen=True)
class Seen:
    """What one start of one server gave."""

    cold_start_s: float
    memory: Memory
    rounds: dict[tuple[str, int], Round]


def measure_server(
    peer: Peer,
    model: Model,
    folder: Path,
    forms: Sequence[Form],
    connections: Sequence[int],
    *,
    seconds: int,
    warm_up_s: int,
    say: Callable[[str], None],
) -> Seen:
    """Start it with no other server running, check, load in every form, look at its memory, stop.

    Alone, because idle servers too cost processor time (some poll), and because a page that two
    servers share would count half for each.
    """
    rounds = {}
    with running(peer, model, folder) as server:
        for count in connections:
            for form in forms:
                check_answers(server, form, count)
                measured = measure_point(server, form, count, seconds=seconds, warm_up_s=warm_up_s)
                rounds[form.name, count] = measured
                say(
                    f"  {peer.name}, {form.name}, {count} connections: "
                    f"{measured.per_second:,.0f}/s, p50 {measured.p50_ms:.2f} ms"
                )
        memory = server.process.memory()
        for form in forms:
            check_answers(server, form, max(connections))
        return Seen(server.cold_start_s, memory, rounds)
