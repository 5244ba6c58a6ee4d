"""The result of a benchmark run: values, their file, and the arithmetic of rounds and ratios."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median

import msgspec

from benchmarks.machine import ROOT, Commit, Machine

SCHEMA = "modelyard.benchmark/1"
FOLDER = ROOT / "benchmarks" / "results"


class Round(msgspec.Struct, frozen=True):
    """One server under one load for some seconds."""

    per_second: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    requests: int
    errors: int
    """Answers with a status of 400 and above, and failures of the socket."""
    server_cpu_us: float
    """Processor time of the server's whole process tree, a request."""
    client_cpu_us: float
    """Processor time of the load generator, a request."""
    client_busy: float
    """Share of a core that each process of the load generator used; near 1 it was the limit."""
    others_busy: float
    """Share of the machine that neither server nor generator used; above some percent: noise."""


class Middle(msgspec.Struct, frozen=True):
    """The median of the rounds, field by field; the spread of the throughput; all errors."""

    per_second: float
    per_second_low: float
    per_second_high: float
    p50_ms: float
    p99_ms: float
    server_cpu_us: float
    client_cpu_us: float
    client_busy: float
    others_busy: float
    errors: int


class Ratio(msgspec.Struct, frozen=True):
    """This point over the baseline's of the same connections: the median of each round's ratio."""

    per_second: float
    p50: float
    p99: float
    server_cpu: float


class Point(msgspec.Struct, frozen=True):
    """One server, one form of request, one number of connections."""

    server: str
    form: str
    connections: int
    rounds: list[Round]
    median: Middle
    ratio: Ratio | None = None


class Figure(msgspec.Struct, frozen=True):
    """One number of a server that is not about a load: cold start, memory, cost of a call."""

    server: str
    name: str
    unit: str
    rounds: list[float]
    median: float


class Aim(msgspec.Struct, frozen=True):
    """What was aimed at, and what came out. Written down either way."""

    text: str
    value: float
    bound: float
    met: bool


class Method(msgspec.Struct, frozen=True):
    """How long and how often each point was measured."""

    seconds: int
    warm_up_s: int
    rounds: int
    connections: list[int]
    baseline: str | None = None


class Report(msgspec.Struct, frozen=True):
    """Everything that one benchmark found out, and on what."""

    benchmark: str
    question: str
    command: str
    date: datetime
    machine: Machine
    commit: Commit
    method: Method
    servers: dict[str, str]
    figures: list[Figure]
    points: list[Point]
    aims: list[Aim] = []
    notes: list[str] = []
    left_out: dict[str, str] = {}
    """Servers that could not be measured, or not to the end, and why."""
    schema: str = SCHEMA

    def point(self, server: str, form: str, connections: int) -> Point:
        """The point of these three. Raises `LookupError`."""
        for point in self.points:
            if (point.server, point.form, point.connections) == (server, form, connections):
                return point
        raise LookupError(f"no point {server}, {form}, {connections} connections")

    def figure(self, server: str, name: str) -> Figure:
        """The figure of these two. Raises `LookupError`."""
        for figure in self.figures:
            if (figure.server, figure.name) == (server, name):
                return figure
        raise LookupError(f"no figure {server}, {name}")

    @property
    def errors(self) -> int:
        """Failed requests over all points of Modelyard's; what others lose is theirs to explain."""
        return sum(
            point.median.errors for point in self.points if point.server.startswith("modelyard")
        )


def summarise(rounds: Sequence[Round]) -> Middle:
    """The middle of at least one round."""

    def middle(read: Callable[[Round], float]) -> float:
        return median(map(read, rounds))

    return Middle(
        per_second=middle(lambda each: each.per_second),
        per_second_low=min(each.per_second for each in rounds),
        per_second_high=max(each.per_second for each in rounds),
        p50_ms=middle(lambda each: each.p50_ms),
        p99_ms=middle(lambda each: each.p99_ms),
        server_cpu_us=middle(lambda each: each.server_cpu_us),
        client_cpu_us=middle(lambda each: each.client_cpu_us),
        client_busy=middle(lambda each: each.client_busy),
        others_busy=middle(lambda each: each.others_busy),
        errors=sum(each.errors for each in rounds),
    )


def compare(rounds: Sequence[Round], baseline: Sequence[Round]) -> Ratio:
    """Ratios to the baseline, each round to the baseline's round of the same minutes.

    A server that was measured in fewer rounds is compared with the baseline's first ones.
    """

    def ratio(read: Callable[[Round], float]) -> float:
        pairs = zip(rounds, baseline, strict=False)
        return median(read(mine) / read(theirs) for mine, theirs in pairs)

    return Ratio(
        per_second=ratio(lambda each: each.per_second),
        p50=ratio(lambda each: each.p50_ms),
        p99=ratio(lambda each: each.p99_ms),
        server_cpu=ratio(lambda each: each.server_cpu_us),
    )


def figure(server: str, name: str, unit: str, rounds: Iterable[float]) -> Figure:
    """A figure with its median."""
    values = [float(value) for value in rounds]
    return Figure(server, name, unit, values, median(values))


def encode_report(report: Report) -> bytes:
    """The report's file: indented JSON, numbers rounded to what was measured."""
    plain = msgspec.to_builtins(report)
    return msgspec.json.format(msgspec.json.encode(_rounded(plain)), indent=2) + b"\n"


def decode_report(data: bytes) -> Report:
    """Read a report's file. Raises `msgspec.ValidationError` where it is none."""
    report = msgspec.json.decode(data, type=Report)
    if report.schema != SCHEMA:
        raise msgspec.ValidationError(f"this is a {report.schema}, not a {SCHEMA}")
    return report


def save_report(report: Report, folder: Path = FOLDER) -> Path:
    """Write `FOLDER/BENCHMARK.json`; git keeps the older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.benchmark}.json"
    path.write_bytes(encode_report(report))
    return path


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.5g}") if abs(value) < 1e5 else float(round(value))
    if isinstance(value, dict):
        return {key: _rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_rounded(each) for each in value]
    return value
