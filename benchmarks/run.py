"""A run of a benchmark: its settings, the interleaving of its points, and its report."""

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.machine import Commit, Machine, describe_commit, describe_machine
from benchmarks.measure import Running, check_answers, measure_point, running
from benchmarks.peer import Forest, Form, Peer
from benchmarks.results import Method, Point, Round, compare, summarise


@dataclass(frozen=True)
class Settings:
    """How long and how often."""

    seconds: int = 5
    warm_up_s: int = 1
    rounds: int = 3
    connections: tuple[int, ...] = (1, 8, 64)
    servers: tuple[str, ...] = ()
    """Names of the servers to measure; none means all. The baseline is always measured."""

    def method(self, baseline: str | None) -> Method:
        """The same, for the report."""
        return Method(self.seconds, self.warm_up_s, self.rounds, list(self.connections), baseline)


QUICK = Settings(seconds=1, rounds=1)


@dataclass(frozen=True)
class Occasion:
    """What was measured on, looked at before the first load."""

    date: datetime
    machine: Machine
    commit: Commit
    command: str

    @staticmethod
    def now() -> "Occasion":
        """Look at the machine and the checkout."""
        command = shlex.join(["python", "-m", "benchmarks", *sys.argv[1:]])
        date = datetime.now(UTC).replace(microsecond=0)
        return Occasion(date, describe_machine(), describe_commit(), command)


@dataclass(frozen=True)
class Series:
    """One server, one form, one number of connections: what becomes a point."""

    server: Running
    form: Form
    connections: int

    def __str__(self) -> str:
        return f"{self.server.peer.name}, {self.form.name}, {self.connections} connections"


Say = Callable[[str], None]


def measure_load(
    peers: Sequence[Peer],
    forest: Forest,
    folder: Path,
    settings: Settings,
    *,
    baseline: str | None,
    say: Say,
) -> list[Point]:
    """Start all servers, check their answers, and measure every point once a round.

    Within a round all servers are measured at one number of connections before the next number,
    so that a machine that drifts hits all alike; idle servers wait meanwhile.
    """
    with ExitStack() as stack:
        servers = [stack.enter_context(running(peer, forest, folder)) for peer in peers]
        series = list(_series(servers, settings.connections))
        rounds: list[list[Round]] = [[] for _ in series]
        for number in range(1, settings.rounds + 1):
            for each, measured in zip(series, rounds, strict=True):
                check_answers(each.server, each.form, forest, each.connections)
                measured.append(
                    measure_point(
                        each.server,
                        each.form,
                        forest,
                        each.connections,
                        seconds=settings.seconds,
                        warm_up_s=settings.warm_up_s,
                    )
                )
                say(
                    f"round {number}/{settings.rounds}: {each}: "
                    f"{measured[-1].per_second:,.0f}/s, p50 {measured[-1].p50_ms:.2f} ms"
                )
        for each in series:
            check_answers(each.server, each.form, forest, each.connections)
    return to_points(
        [(each.server.peer.name, each.form.name, each.connections) for each in series],
        rounds,
        baseline,
    )


def _series(servers: Sequence[Running], connections: Sequence[int]) -> Iterator[Series]:
    for count in connections:
        for server in servers:
            for form in server.peer.forms:
                yield Series(server, form, count)


def to_points(
    names: Sequence[tuple[str, str, int]],
    rounds: Sequence[list[Round]],
    baseline: str | None,
) -> list[Point]:
    """Points of the rounds, with ratios to the baseline's first form at as many connections."""
    against: dict[int, list[Round]] = {}
    for (server, _, connections), measured in zip(names, rounds, strict=True):
        if server == baseline:
            against.setdefault(connections, measured)
    return [
        Point(
            server,
            form,
            connections,
            measured,
            summarise(measured),
            compare(measured, against[connections]) if connections in against else None,
        )
        for (server, form, connections), measured in zip(names, rounds, strict=True)
    ]


def chosen(peers: Sequence[Peer], settings: Settings, baseline: str | None) -> list[Peer]:
    """The peers that the settings name, and the baseline. Raises `LookupError` for a stranger."""
    known = {peer.name for peer in peers}
    strangers = set(settings.servers) - known
    if strangers:
        raise LookupError(
            f"no server {', '.join(sorted(strangers))}; there are {', '.join(sorted(known))}"
        )
    wanted = {*(settings.servers or known), baseline}
    return [peer for peer in peers if peer.name in wanted]
