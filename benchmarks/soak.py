"""`python -m benchmarks.soak --minutes 10`: do memory and latency stay flat under steady load?"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import numpy as np

from benchmarks.comparison import FAILURES
from benchmarks.goals import aim
from benchmarks.load import Load, require_wrk, run_load
from benchmarks.measure import Running, check_answers, measure_load, measure_point, running
from benchmarks.model import make_model
from benchmarks.peer import Form
from benchmarks.peers.modelyard import Modelyard
from benchmarks.processes import Memory, allow_many_files
from benchmarks.results import FOLDER, Aim, Method, Report, Round, figure, save_report
from benchmarks.run import Occasion, Say, to_points

NAME = "soak"
QUESTION = "Do memory and p99 stay flat while a forest is called at 80% of what its server can do?"
_SHARE = 0.8
_PAUSE_MS = 10
_LIMIT_CONNECTIONS = 64
_LIMIT_S = 10
_TRIAL_S = 5
_TRIALS = 3
_MB = 1e6
_MOST_GROWTH = 0.02
"""How much of its memory a server may gain over the run, by a straight line through it."""
_MOST_SLOWER = 0.2
"""How much of its mean p99 may come on top over the run, by a straight line through it."""
_NOTES = [
    "The load is paced: each connection pauses between an answer and its next request, for a "
    "random time, and there are as many connections as give 80% of the limit. The limit is what "
    "the same generator gets without pauses.",
    "One round is one piece of the run; rates, p99 and memory are told for each in its order.",
]


def run(minutes: float, piece_s: int, say: Say) -> Report:
    """Find the limit, then hold four fifths of it for so long."""
    occasion = Occasion.now()
    peer = Modelyard()
    rounds: list[Round] = []
    memories: list[Memory] = []
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = make_model("forest", folder)
        peer.prepare(model, folder)
        form = peer.forms(model)[0]
        with running(peer, model, folder) as server:
            check_answers(server, form, _LIMIT_CONNECTIONS)
            limit = measure_point(
                server, form, _LIMIT_CONNECTIONS, seconds=_LIMIT_S, warm_up_s=_TRIAL_S
            )
            say(f"  limit: {limit.per_second:,.0f}/s")
            connections = _pace(server, form, _SHARE * limit.per_second, say)
            for number in range(max(2, round(minutes * 60 / piece_s))):
                measured = measure_load(
                    server.process,
                    lambda seconds: _paced(server, form, connections, seconds),
                    seconds=piece_s,
                    warm_up_s=0,
                )
                rounds.append(measured)
                memories.append(server.process.memory())
                say(
                    f"  {(number + 1) * piece_s} s: {measured.per_second:,.0f}/s, "
                    f"p99 {measured.p99_ms:.2f} ms, {measured.errors} errors, "
                    f"{memories[-1].pss / _MB:.1f} MB"
                )
            check_answers(server, form, _LIMIT_CONNECTIONS)
    method = Method(piece_s, _TRIAL_S, len(rounds), [connections])
    figures = [
        figure(peer.name, "limit", "requests/s", [limit.per_second]),
        figure(peer.name, "share of the limit", "", [_rate(rounds) / limit.per_second]),
        figure(peer.name, "memory (PSS)", "MB", [each.pss / _MB for each in memories]),
        figure(peer.name, "memory (USS)", "MB", [each.uss / _MB for each in memories]),
        figure(peer.name, "p99 of each piece", "ms", [each.p99_ms for each in rounds]),
    ]
    points = to_points({(peer.name, form.name, connections): rounds}, None)
    report = occasion.report(
        NAME, QUESTION, method, {peer.name: peer.what}, figures, points, _NOTES
    )
    return msgspec.structs.replace(report, aims=aims(report))


def _pace(server: Running, form: Form, per_second: float, say: Say) -> int:
    """How many pausing connections give this rate."""
    connections = max(1, round(per_second * _PAUSE_MS / 1000))
    for _ in range(_TRIALS):
        load = _paced(server, form, connections, _TRIAL_S)
        say(f"  {connections} connections: {load.per_second:,.0f} of {per_second:,.0f}/s")
        connections = max(1, round(connections * per_second / load.per_second))
    return connections


def _paced(server: Running, form: Form, connections: int, seconds: int) -> Load:
    requests = [form.encode(case.inputs) for case in server.model.cases]
    asked = [(form.path, body) for body, _ in requests]
    return run_load(
        server.url,
        requests[0][1],
        asked,
        connections=connections,
        seconds=seconds,
        pause_ms=_PAUSE_MS,
    )


def aims(report: Report) -> list[Aim]:
    """Flatness of memory and of p99, and no error."""
    (server,) = report.servers
    memory = report.figure(server, "memory (PSS)").rounds
    p99 = report.figure(server, "p99 of each piece").rounds
    return [
        aim("memory gained past the first fifth", rise(_settled(memory)), at_most=_MOST_GROWTH),
        aim("p99 gained past the first fifth", rise(_settled(p99)), at_most=_MOST_SLOWER),
        aim("failed requests", report.errors, at_most=0),
    ]


def _settled(values: Sequence[float]) -> Sequence[float]:
    """Without the first fifth, in which allocators find out how much they need."""
    return values[len(values) // 5 :]


def rise(values: Sequence[float]) -> float:
    """What a straight line through the values gains over all of them, as a share of their mean."""
    slope = np.polyfit(np.arange(len(values)), values, 1)[0]
    return float(slope * (len(values) - 1) / np.mean(values))


def _rate(rounds: Sequence[Round]) -> float:
    return float(np.mean([each.per_second for each in rounds]))


def main(arguments: Sequence[str]) -> int:
    """Exit status 0; 1 where the run failed or something was not flat."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long; default: 10")
    parser.add_argument("--piece", type=int, default=30, metavar="S", help="seconds of each piece")
    parser.add_argument("--results", type=Path, default=FOLDER, metavar="DIR")
    options = parser.parse_args(arguments)
    allow_many_files()
    try:
        require_wrk()
        report = run(options.minutes, options.piece, print)
    except FAILURES as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    for each in report.aims:
        print(f"{'met' if each.met else 'MISSED'}: {each.text}; {each.value:.4g}")
    print(f"written to {save_report(report, options.results)}")
    return int(not all(each.met for each in report.aims))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
