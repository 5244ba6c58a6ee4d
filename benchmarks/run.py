"""A run of a benchmark: its settings, its occasion, and the points of its rounds."""

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks.machine import Commit, Machine, describe_commit, describe_machine
from benchmarks.peer import Peer
from benchmarks.results import Figure, Method, Point, Report, Round, compare, summarise

Say = Callable[[str], None]
Key = tuple[str, str, int]
"""Server, form, connections."""


@dataclass(frozen=True)
class Settings:
    """How long, how often, and whom."""

    seconds: int = 2
    warm_up_s: int = 1
    rounds: int = 2
    connections: tuple[int, ...] = (1, 8, 64)
    servers: tuple[str, ...] = ()
    """Names of the servers to measure; none means all. The baseline is always measured."""
    quick: bool = False
    """Only what needs no environment but FastAPI's."""

    def method(self, baseline: str | None) -> Method:
        """The same, for the report."""
        return Method(self.seconds, self.warm_up_s, self.rounds, list(self.connections), baseline)


QUICK = Settings(seconds=1, rounds=1, connections=(1, 64), quick=True)


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

    def report(
        self,
        name: str,
        question: str,
        method: Method,
        servers: Mapping[str, str],
        figures: Sequence[Figure],
        points: Sequence[Point],
        notes: Sequence[str] = (),
        left_out: Mapping[str, str] | None = None,
    ) -> Report:
        """What was found out, with what it was found out on; aims are added by who has some."""
        return Report(
            benchmark=name,
            question=question,
            command=self.command,
            date=self.date,
            machine=self.machine,
            commit=self.commit,
            method=method,
            servers=dict(servers),
            figures=list(figures),
            points=list(points),
            notes=list(notes),
            left_out=dict(left_out or {}),
        )


def to_points(rounds: Mapping[Key, list[Round]], baseline: str | None) -> list[Point]:
    """Points of the rounds, with ratios to the baseline's first form at as many connections."""
    against: dict[int, list[Round]] = {}
    for (server, _, connections), measured in rounds.items():
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
        for (server, form, connections), measured in rounds.items()
    ]


def chosen(peers: Sequence[Peer], settings: Settings, baseline: str | None) -> list[Peer]:
    """The peers that the settings name, and the baseline."""
    if not settings.servers:
        return list(peers)
    return [peer for peer in peers if peer.name in {*settings.servers, baseline}]
