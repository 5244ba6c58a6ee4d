"""How routes stand in one process, as plain data that travels and adds up over processes."""

from collections.abc import Iterable
from typing import Final

import msgspec

KEPT: Final = 5
"""How many disagreements are kept."""


class Disagreement(msgspec.Struct, frozen=True, kw_only=True):
    """A call whose shadow answered something else: where they differ first."""

    at: str
    call: str
    output: str
    answered: str
    shadow: str


class ShadowCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What became of the copies: compared (and then the same or not), failed, or not made.

    `labels_agreed` are those whose outputs agree in everything but floating-point numbers.
    """

    compared: int = 0
    agreed: int = 0
    labels_agreed: int = 0
    differed: int = 0
    failed: int = 0
    dropped: int = 0
    disagreements: tuple[Disagreement, ...] = ()

    def __add__(self, other: "ShadowCounts") -> "ShadowCounts":
        newest = sorted((*self.disagreements, *other.disagreements), key=lambda each: each.at)
        return ShadowCounts(
            compared=self.compared + other.compared,
            agreed=self.agreed + other.agreed,
            labels_agreed=self.labels_agreed + other.labels_agreed,
            differed=self.differed + other.differed,
            failed=self.failed + other.failed,
            dropped=self.dropped + other.dropped,
            disagreements=tuple(newest[-KEPT:]),
        )


class TargetReport(msgspec.Struct, frozen=True, kw_only=True):
    """A version of a route here. `asked` is its share in the registry, `given` the share that it
    has, in percent; `reason` says why they differ, or why it is not `ready`."""

    version: int
    asked: float
    given: float
    ready: bool
    reason: str = ""


class ShadowReport(msgspec.Struct, frozen=True, kw_only=True):
    """The shadow of a route here."""

    version: int
    percent: float
    ready: bool
    reason: str = ""
    counts: ShadowCounts = ShadowCounts()


class RouteReport(msgspec.Struct, frozen=True, kw_only=True):
    """A model's route as this process follows it."""

    model: str
    generation: int
    targets: tuple[TargetReport, ...]
    sticky: str = ""
    shadow: ShadowReport | None = None


def merge_routes(reports: Iterable[Iterable[RouteReport]]) -> list[RouteReport]:
    """The routes of several processes as one list: shadow counts added up, the worst state shown.

    Of processes that follow different generations, the newest counts.
    """
    merged: dict[str, RouteReport] = {}
    for report in (each for process in reports for each in process):
        known = merged.get(report.model)
        merged[report.model] = report if known is None else _merge(known, report)
    return [merged[model] for model in sorted(merged)]


def _merge(left: RouteReport, right: RouteReport) -> RouteReport:
    if left.generation != right.generation:
        return max(left, right, key=lambda report: report.generation)
    shadow = left.shadow
    if shadow is not None and right.shadow is not None:
        worse = shadow if not shadow.ready else right.shadow
        shadow = msgspec.structs.replace(worse, counts=shadow.counts + right.shadow.counts)
    targets = tuple(
        one if not one.ready else other
        for one, other in zip(left.targets, right.targets, strict=True)
    )
    return msgspec.structs.replace(left, targets=targets, shadow=shadow)
