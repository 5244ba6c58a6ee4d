"""`python -m benchmarks [NAME …]`: run benchmarks, print their tables, write their results."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import (
    ablations,
    encoder_http,
    forest_http,
    gate,
    grpc_calls,
    limits,
    many_connections,
    many_models,
    net_http,
    workers,
)
from benchmarks.comparison import FAILURES
from benchmarks.load import require_wrk
from benchmarks.peers.limits import ECHOES
from benchmarks.processes import allow_many_files
from benchmarks.results import FOLDER, Report, save_report
from benchmarks.run import QUICK, Say, Settings
from benchmarks.servers import everybody
from benchmarks.table import print_report

BENCHMARKS: Mapping[str, Callable[[Settings, Say], Report]] = {
    forest_http.NAME: forest_http.run,
    net_http.NAME: net_http.run,
    encoder_http.NAME: encoder_http.run,
    grpc_calls.NAME: grpc_calls.run,
    limits.NAME: limits.run,
    workers.NAME: workers.run,
    gate.NAME: gate.run,
    many_models.NAME: many_models.run,
    many_connections.NAME: many_connections.run,
    ablations.NAME: ablations.run,
}

_QUICK = (forest_http.NAME, grpc_calls.NAME, limits.NAME)
"""What a quick look runs where nothing is named: the forest, and what bounds it."""
_WIDTH = 132
"""Columns where no terminal says how many it has."""


def main(arguments: Sequence[str]) -> int:
    """Exit status 0; 1 where a request failed or an answer was wrong; 2 for a bad command."""
    options = _parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    try:
        require_wrk()
        allow_many_files()
        reports = [_run(name, options, console) for name in options.names]
    except FAILURES as error:
        console.print(f"[red]failed[/red]: {error}", highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print("interrupted; every server is stopped and nothing more is written")
        return 130
    return int(any(report.errors for report in reports))


def _run(name: str, options: argparse.Namespace, console: Console) -> Report:
    def say(line: str) -> None:
        console.print(line, style="dim", highlight=False)

    report = BENCHMARKS[name](_settings(options), say)
    print_report(report, console)
    if options.results:
        console.print(f"  written to {save_report(report, options.results)}")
    return report


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    quick = "one round of a second a point, and of the peers only the FastAPI services"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds of every point")
    parser.add_argument("--seconds", type=int, metavar="S", help="seconds a point")
    parser.add_argument("--connections", type=int, nargs="+", metavar="C")
    parser.add_argument("--servers", nargs="+", metavar="SERVER", help="measure only these")
    parser.add_argument("--results", type=Path, metavar="DIR", help=f"default: {FOLDER}")
    parser.add_argument("--dry", action="store_true", help="print, but write no results")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    known = {peer.name for peer in everybody()} | ECHOES
    strangers = [name for name in options.servers or () if name not in known]
    if strangers:
        known_names = ", ".join(sorted(known))
        parser.error(f"no server {', '.join(strangers)}; there are {known_names}")
    if not options.names:
        options.names = list(_QUICK if options.quick else BENCHMARKS)
    # A quick look must not overwrite what a whole run found out.
    if options.results is None and not (options.dry or options.quick):
        options.results = FOLDER
    return options


def _settings(options: argparse.Namespace) -> Settings:
    base = QUICK if options.quick else Settings()
    given = {
        "rounds": options.rounds,
        "seconds": options.seconds,
        "connections": tuple(options.connections) if options.connections else None,
        "servers": tuple(options.servers) if options.servers else None,
    }
    return dataclasses.replace(
        base, **{name: value for name, value in given.items() if value is not None}
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
