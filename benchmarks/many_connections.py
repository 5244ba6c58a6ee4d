"""Does a request cost the same over one connection and over a thousand?"""

from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from benchmarks.goals import aim
from benchmarks.measure import check_answers, measure_point, running
from benchmarks.model import make_model
from benchmarks.peers.modelyard import Modelyard
from benchmarks.results import Aim, Report, Round
from benchmarks.run import Key, Occasion, Say, Settings, to_points

NAME = "many_connections"
QUESTION = "Does a request for a forest cost the same over 1 connection, and over up to 1,000?"
_COUNTS = (1, 8, 64, 256, 1_000)
_CHECKED = 64
_FLAT = 1.2
"""How much more a request may cost at the far end and still be called flat."""
_NOTES = [
    "Over one connection every turn of the event loop holds one request, so nothing is batched "
    "and a request costs most; flat means that it does not rise again. Held against the "
    "cheaper half, 64 connections.",
    "In a closed loop the median latency is the connections over the requests a second: only "
    "the cost is asked here.",
]


def run(settings: Settings, say: Say) -> Report:
    """Measure; half a minute."""
    occasion = Occasion.now()
    peer = Modelyard()
    rounds: dict[Key, list[Round]] = {}
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = make_model("forest", folder)
        peer.prepare(model, folder)
        form = peer.forms(model)[0]
        with running(peer, model, folder) as server:
            for _ in range(settings.rounds):
                for count in _COUNTS:
                    check_answers(server, form, min(count, _CHECKED))
                    measured = measure_point(
                        server,
                        form,
                        count,
                        seconds=settings.seconds,
                        warm_up_s=settings.warm_up_s,
                    )
                    rounds.setdefault((peer.name, form.name, count), []).append(measured)
                    say(
                        f"  {count} connections: {measured.per_second:,.0f}/s, "
                        f"{measured.server_cpu_us:.1f} µs of the server a request"
                    )
    method = msgspec.structs.replace(settings.method(None), connections=list(_COUNTS))
    points = to_points(rounds, None)
    report = occasion.report(NAME, QUESTION, method, {peer.name: peer.what}, [], points, _NOTES)
    return msgspec.structs.replace(report, aims=aims(report))


def aims(report: Report) -> list[Aim]:
    """Flatness: processor time a request over a thousand connections."""
    cost = {point.connections: point.median.server_cpu_us for point in report.points}
    far = max(cost)
    return [
        aim(
            f"server CPU a request at {far:,} connections over that at {near}",
            cost[far] / cost[near],
            at_most=_FLAT,
        )
        for near in (1, 64)
        if near in cost
    ]
