"""What a whole server does: the reports of its workers, added up, for an operator to see."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from modelyard.core.payloads import CaptureState
from modelyard.core.usage import SpoolState
from modelyard.serving.places import PlaceReport
from modelyard.serving.report import Report, State, merge
from modelyard.serving.route_report import RouteReport
from modelyard.serving.supervision.worker import WorkerId

Version = tuple[str, int]
"""A model's name and the number of one of its versions."""


class Problem(msgspec.Struct, frozen=True):
    """A version that should be served and is not, and why."""

    model: str
    version: int
    reason: str


class WorkerReport(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker says of itself."""

    endpoints: list[State] = []
    routes: list[RouteReport] = []
    problems: list[Problem] = []
    usage: SpoolState = SpoolState()
    payloads: CaptureState = CaptureState()


class WorkerLine(msgspec.Struct, frozen=True, kw_only=True):
    """A worker, as its supervisor sees it."""

    slot: int
    pid: int
    state: str
    age_s: float
    restarts: int
    connections: int
    pss_bytes: int | None


class ProcessLine(msgspec.Struct, frozen=True, kw_only=True):
    """A model process that all workers share."""

    place: PlaceReport
    pss_bytes: int | None


class EndpointLine(msgspec.Struct, frozen=True, kw_only=True):
    """A version that is served, over all workers. Rates and quantiles are of the last seconds."""

    model: str
    version: int
    digest: str
    platform: str
    places: list[str]
    workers: int
    trouble: list[str]
    open_calls: int
    queued_rows: int
    calls: int
    errors: int
    refusals: int
    per_second: float
    p50_ms: float
    p99_ms: float


class Overview(msgspec.Struct, frozen=True, kw_only=True):
    """A server and all its parts."""

    pid: int
    url: str
    grpc_address: str
    home: str
    age_s: float
    pss_bytes: int | None
    workers: list[WorkerLine]
    endpoints: list[EndpointLine]
    routes: list[RouteReport]
    problems: list[Problem]
    processes: list[ProcessLine]
    usage: SpoolState = SpoolState()
    payloads: CaptureState = CaptureState()


class Ledger:
    """What workers have counted, those that are gone included: no total ever goes back."""

    def __init__(self, now_s: float) -> None:
        self._latest: dict[WorkerId, WorkerReport] = {}
        self._departed: dict[Version, Report] = {}
        self._before: tuple[float, dict[Version, Report]] = (now_s, {})
        self._now = self._before

    def note(self, worker: WorkerId, report: WorkerReport) -> None:
        """What a worker says now."""
        self._latest[worker] = report

    def bury(self, worker: WorkerId) -> None:
        """A worker is gone; what it has counted stays."""
        last = self._latest.pop(worker, WorkerReport())
        for state in last.endpoints:
            key = state.model, state.version
            self._departed[key] = merge((self._departed.get(key, Report()), state.report))

    @property
    def reports(self) -> Sequence[WorkerReport]:
        """What each worker that lives has said last."""
        return list(self._latest.values())

    def totals(self) -> dict[Version, Report]:
        """What was counted of every version that a worker serves."""
        counted: dict[Version, list[Report]] = {}
        coming: set[Version] = set()
        for report in self._latest.values():
            for state in report.endpoints:
                counted.setdefault((state.model, state.version), []).append(state.report)
            # One that is still being loaded, by a worker that follows another, has not gone.
            coming.update((each.model, each.version) for each in report.problems)
        if counted:
            for version in self._departed.keys() - counted.keys() - coming:
                del self._departed[version]
        return {
            version: merge((*reports, self._departed.get(version, Report())))
            for version, reports in counted.items()
        }

    def sample(self, now_s: float) -> None:
        """Remember this moment, for rates."""
        self._before, self._now = self._now, (now_s, self.totals())

    def recent(self, now_s: float) -> tuple[float, Mapping[Version, Report]]:
        """How many seconds the last two samples reach back, and what was counted since."""
        since_s, before = self._before
        return now_s - since_s, {
            version: _since(total, before.get(version, Report()))
            for version, total in self.totals().items()
        }


def endpoint_lines(ledger: Ledger, now_s: float) -> list[EndpointLine]:
    """Every version that is served, by model and version."""
    states: dict[Version, list[State]] = {}
    for report in ledger.reports:
        for state in report.endpoints:
            states.setdefault((state.model, state.version), []).append(state)
    seconds, recent = ledger.recent(now_s)
    totals = ledger.totals()
    return [
        _line(states[version], totals[version], recent[version], seconds)
        for version in sorted(states)
    ]


def problems(reports: Iterable[WorkerReport]) -> list[Problem]:
    """What cannot be served, each reason once."""
    every = {(each.model, each.version, each.reason) for one in reports for each in one.problems}
    return [Problem(*each) for each in sorted(every)]


def _since(total: Report, before: Report) -> Report:
    # A version that was taken away and came again counts from nothing.
    return total.since(before) if total.ok >= before.ok else total


def _line(states: Sequence[State], total: Report, recent: Report, seconds: float) -> EndpointLine:
    first = states[0]
    calls = recent.ok[0] + sum(count for count, _ in recent.otherwise.values())
    return EndpointLine(
        model=first.model,
        version=first.version,
        digest=first.digest,
        platform=first.platform,
        places=sorted({each.load.place for each in states}),
        workers=len(states),
        trouble=sorted({each.trouble for each in states if each.trouble}),
        open_calls=sum(each.open_calls for each in states),
        queued_rows=sum(each.load.queued_rows for each in states),
        calls=total.ok[0],
        errors=sum(count for count, _ in total.otherwise.values()),
        refusals=sum(total.refusals.values()),
        per_second=calls / seconds if seconds > 0 else 0.0,
        p50_ms=recent.quantile_ns(0.5) / 1e6,
        p99_ms=recent.quantile_ns(0.99) / 1e6,
    )
