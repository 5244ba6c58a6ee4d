"""A report as tables for a terminal."""

from itertools import groupby

from rich.console import Console
from rich.table import Table

from benchmarks.results import Point, Report

_NOISE = 0.05
"""Share of the machine used by others from which a point is marked."""
_SATURATED = 0.9
"""Share of its core from which the load generator may have been the limit."""


def print_report(report: Report, console: Console) -> None:
    """Question, machine, points, figures, aims and notes."""
    machine, method = report.machine, report.method
    dirty = " (dirty)" if report.commit.dirty else ""
    console.print(f"\n[bold]{report.question}[/bold]")
    console.print(
        f"{machine.cpu}, {machine.cores} cores, {machine.memory_bytes / 2**30:.0f} GiB, "
        f"{machine.system}, Python {machine.python}; commit {report.commit.sha[:12]}{dirty}; "
        f"load average before {machine.load_average}; "
        f"{method.rounds} rounds of {method.seconds} s a point",
        highlight=False,
    )
    for name, what in report.servers.items():
        console.print(f"  [bold]{name}[/bold]: {what}", highlight=False)
    if report.points:
        console.print(_points(report.points))
    if report.figures:
        console.print(_figures(report))
    for aim in report.aims:
        mark = "[green]met[/green]" if aim.met else "[red]missed[/red]"
        console.print(f"  {mark}  {aim.text}: {aim.value:.3g}", highlight=False)
    for name, reason in report.left_out.items():
        console.print(f"  [red]left out[/red]  {name}: {_first_line(reason)}", highlight=False)
    for note in [*report.notes, *_warnings(report)]:
        console.print(f"  note: {note}", highlight=False)


def _points(points: list[Point]) -> Table:
    table = Table(title="under load (median of the rounds)", title_justify="left")
    table.add_column("conn.", justify="right")
    table.add_column("server, form", no_wrap=True)
    for head in (
        "requests/s",
        "ratio",
        "p50 ms",
        "ratio",
        "p99 ms",
        "server CPU µs",
        "client CPU µs",
    ):
        table.add_column(head, justify="right")
    table.add_column("errors", justify="right")
    ordered = sorted(points, key=lambda point: point.connections)
    for _, group in groupby(ordered, key=lambda point: point.connections):
        for point in group:
            table.add_row(*_cells(point))
        table.add_section()
    return table


def _cells(point: Point) -> tuple[str, ...]:
    middle, ratio = point.median, point.ratio
    errors = f"[red]{middle.errors}[/red]" if middle.errors else "0"
    return (
        str(point.connections),
        f"{point.server}, {point.form}",
        f"{middle.per_second:,.0f}",
        "" if ratio is None else f"{ratio.per_second:.2f}x",
        f"{middle.p50_ms:.3f}",
        "" if ratio is None else f"{ratio.p50:.2f}x",
        f"{middle.p99_ms:.2f}",
        f"{middle.server_cpu_us:.1f}",
        f"{middle.client_cpu_us:.1f}",
        errors,
    )


def _figures(report: Report) -> Table:
    table = Table(title="alone (median of the rounds)", title_justify="left")
    table.add_column("server", no_wrap=True)
    names = list(dict.fromkeys(each.name for each in report.figures))
    units = {each.name: each.unit for each in report.figures}
    for name in names:
        table.add_column(f"{name}, {units[name]}" if units[name] else name, justify="right")
    for server in dict.fromkeys(each.server for each in report.figures):
        medians = {each.name: each.median for each in report.figures if each.server == server}
        table.add_row(server, *(_number(medians.get(name)) for name in names))
    return table


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "no reason given")[:160]


def _warnings(report: Report) -> list[str]:
    """What a reader must know before believing the numbers."""
    found = []
    noisy = [point for point in report.points if point.median.others_busy > _NOISE]
    if noisy:
        worst = max(point.median.others_busy for point in noisy)
        found.append(
            f"others used up to {worst:.0%} of the machine at {len(noisy)} of "
            f"{len(report.points)} points: measure again when it is quiet"
        )
    saturated = [point for point in report.points if point.median.client_busy > _SATURATED]
    if saturated:
        names = ", ".join(
            f"{point.server} {point.form} at {point.connections}" for point in saturated
        )
        found.append(f"the load generator's core was full at {names}: the server may do more")
    if report.commit.dirty:
        found.append("the checkout had changes: the numbers are not the commit's")
    return found
