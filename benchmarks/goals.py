"""What was aimed at, as data, and what came out: written down either way."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.results import Aim, Point, Report, compare

Measure = Literal["per_second", "p50", "p99"]


@dataclass(frozen=True)
class Goal:
    """A ratio of two points of a report at one number of connections.

    Where `theirs` names several, the one with most requests a second counts.
    """

    text: str
    ours: tuple[str, str]
    """Server and form."""
    theirs: Sequence[tuple[str, str]]
    connections: int
    measure: Measure
    at_least: float | None = None
    at_most: float | None = None

    def judge(self, report: Report) -> Aim | None:
        """The verdict; None where the run has not measured what it takes."""
        ours = _points(report, [self.ours], self.connections)
        theirs = _points(report, self.theirs, self.connections)
        if not ours or not theirs:
            return None
        best = max(theirs, key=lambda point: point.median.per_second)
        return aim(
            self.text,
            getattr(compare(ours[0].rounds, best.rounds), self.measure),
            at_least=self.at_least,
            at_most=self.at_most,
        )


def judge(goals: Iterable[Goal], report: Report) -> list[Aim]:
    """The verdicts on those goals that the run can speak of."""
    verdicts = (goal.judge(report) for goal in goals)
    return [verdict for verdict in verdicts if verdict is not None]


def aim(
    text: str, value: float, *, at_least: float | None = None, at_most: float | None = None
) -> Aim:
    """One bound and what came out."""
    if at_least is not None:
        return Aim(f"{text}: at least {at_least:g}", value, at_least, value >= at_least)
    if at_most is not None:
        return Aim(f"{text}: at most {at_most:g}", value, at_most, value <= at_most)
    raise ValueError(f"{text}: no bound")


def _points(report: Report, names: Sequence[tuple[str, str]], connections: int) -> list[Point]:
    return [
        point
        for point in report.points
        if (point.server, point.form) in names and point.connections == connections
    ]
