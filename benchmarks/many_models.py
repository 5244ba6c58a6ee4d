"""Does a request cost the same with one model deployed and with a thousand?"""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx
import msgspec

from benchmarks.deploy_many import model_name
from benchmarks.forms import v2_json
from benchmarks.goals import aim
from benchmarks.load import Load, run_load
from benchmarks.machine import ROOT
from benchmarks.measure import Running, check_answers, measure_load, running
from benchmarks.model import Model, make_model
from benchmarks.peer import Form, WrongAnswer
from benchmarks.peers.modelyard import Modelyard
from benchmarks.results import Aim, Figure, Report, Round, figure
from benchmarks.run import Key, Occasion, Say, Settings, to_points

NAME = "many_models"
QUESTION = "Does a request cost the same with 1 model deployed, and with 10, 100 and 1,000?"
_COUNTS = (1, 10, 100, 1_000)
_CONNECTIONS = (1, 64)
_START_S = 300
_POLL_S = 0.02
_MB = 1e6
_FLAT = 1.2
"""How much more a request may cost at the far end and still be called flat."""
_ONE, _ALL = "one of them", "all in turn"
_NOTES = [
    "The model is one dense layer over 30 numbers; every name has a bundle and a session of its "
    "own.",
    "'one of them': all requests ask the same model, so only what must be searched has grown. "
    "'all in turn': requests go to all models one after the other, so that a turn of the event "
    "loop holds fewer requests a model, at 64 connections batches of one, and each finds its model "
    "cold in the processor's caches.",
]


@dataclass(frozen=True)
class Many(Modelyard):
    """Modelyard with so many models deployed, of which the first is asked whether it is up."""

    count: int = 1
    name: str = "modelyard"

    def forms(self, model: Model) -> Sequence[Form]:
        """Version 2 in JSON, to the first model."""
        return (v2_json(_path(0)),)

    def prepare(self, model: Model, folder: Path) -> None:
        """Deploy those that are not deployed yet."""
        mark = self.home(folder) / "deployed"
        done = int(mark.read_text("ascii")) if mark.exists() else 0
        if done >= self.count:
            return
        self.home(folder).mkdir(parents=True, exist_ok=True)
        script = [sys.executable, "-m", "benchmarks.deploy_many"]
        what = [str(self.home(folder)), str(model.onnx), str(done), str(self.count)]
        subprocess.run([*script, *what], check=True, cwd=ROOT)
        mark.write_text(str(self.count), "ascii")


def run(settings: Settings, say: Say) -> Report:
    """Measure; two minutes."""
    occasion = Occasion.now()
    rounds: dict[Key, list[Round]] = {}
    figures: list[Figure] = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = make_model("small", folder)
        for count in _COUNTS:
            say(f"deploying {count} models")
            # One worker: what is asked is the cost of a request.
            peer = Many(1, count=count)
            peer.prepare(model, folder)
            started = time.perf_counter()
            with running(peer, model, folder, start_s=_START_S) as server:
                _await_ready(server)
                ready_s = time.perf_counter() - started
                _measure(server, count, settings, rounds, say)
                memory = server.process.memory()
            figures += [
                figure(_server(count), "all loaded", "s", [ready_s]),
                figure(_server(count), "memory (PSS)", "MB", [memory.pss / _MB]),
            ]
    servers = {
        _server(count): f"Modelyard with so many models deployed: {count:,}" for count in _COUNTS
    }
    report = occasion.report(
        NAME,
        QUESTION,
        msgspec.structs.replace(settings.method(None), connections=list(_CONNECTIONS)),
        servers,
        figures,
        to_points(rounds, _server(_COUNTS[0])),
        _NOTES,
    )
    return msgspec.structs.replace(report, aims=aims(report))


def aims(report: Report) -> list[Aim]:
    """Flatness: processor time a request at the far end over that at the near end.

    In turn only over one connection, where there are no batches to lose at the near end either.
    """
    found = []
    for form, connections in ((_ONE, 1), (_ONE, 64), (_ALL, 1)):
        near = report.point(_server(_COUNTS[0]), _ONE, connections).median.server_cpu_us
        far = report.point(_server(_COUNTS[-1]), form, connections).median.server_cpu_us
        text = (
            f"server CPU a request with {_COUNTS[-1]:,} models over that with 1, {form}, "
            f"{connections} connection{'s' * (connections > 1)}"
        )
        found.append(aim(text, far / near, at_most=_FLAT))
    return found


def _await_ready(server: Running) -> None:
    """Until all models are loaded: the first one answers before the last one is there."""
    until = time.perf_counter() + _START_S
    while httpx.get(f"{server.url}/v2/health/ready").status_code != httpx.codes.OK:
        server.process.check()
        if time.perf_counter() > until:
            raise WrongAnswer(f"{server.peer.name} was not ready within {_START_S} s")
        time.sleep(_POLL_S)


def _measure(
    server: Running, count: int, settings: Settings, rounds: dict[Key, list[Round]], say: Say
) -> None:
    (form,) = server.peer.forms(server.model)
    targets = {_ONE: [_path(count // 2)]}
    if count > 1:
        targets[_ALL] = [_path(number) for number in range(count)]
    headers = form.encode(server.model.cases[0].inputs)[1]
    for name, paths in targets.items():
        asked = _asked(form, server.model, paths)
        for connections in _CONNECTIONS:
            for path in {paths[0], paths[-1]}:
                check_answers(server, v2_json(path), connections)
            load = partial(_load, server.url, headers, asked, connections)
            for _ in range(settings.rounds):
                measured = measure_load(
                    server.process, load, seconds=settings.seconds, warm_up_s=settings.warm_up_s
                )
                rounds.setdefault((_server(count), name, connections), []).append(measured)
                say(
                    f"  {count} models, {name}, {connections} connections: "
                    f"{measured.per_second:,.0f}/s, {measured.server_cpu_us:.1f} µs of the "
                    "server a request"
                )


def _load(
    url: str,
    headers: Mapping[str, str],
    asked: Sequence[tuple[str, bytes]],
    connections: int,
    seconds: int,
) -> Load:
    return run_load(url, headers, asked, connections=connections, seconds=seconds)


def _asked(form: Form, model: Model, paths: Sequence[str]) -> list[tuple[str, bytes]]:
    """At least every row once and every path once."""
    bodies = [form.encode(case.inputs)[0] for case in model.cases]
    length = max(len(bodies), len(paths))
    return [(paths[at % len(paths)], bodies[at % len(bodies)]) for at in range(length)]


def _path(number: int) -> str:
    return f"/v2/models/{model_name(number)}/infer"


def _server(count: int) -> str:
    return f"modelyard, {count:,} models" if count > 1 else "modelyard, 1 model"
