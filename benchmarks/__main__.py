"""`python -m benchmarks [NAME …]`: run benchmarks, print their tables, write their results."""

import argparse
import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console

from benchmarks import encoder_http, forest_http, grpc_calls, limits, net_http
from benchmarks.load import LoadFailed, require_wrk
from benchmarks.peer import NotPrepared, WrongAnswer
from benchmarks.processes import ServerDied
from benchmarks.results import FOLDER, Report, save_report
from benchmarks.run import QUICK, Say, Settings
from benchmarks.table import print_report

BENCHMARKS: Mapping[str, Callable[[Settings, Say], Report]] = {
    forest_http.NAME: forest_http.run,
    net_http.NAME: net_http.run,
    encoder_http.NAME: encoder_http.run,
    grpc_calls.NAME: grpc_calls.run,
    limits.NAME: limits.run,
}

_WIDTH = 132
"""Columns where no terminal says how many it has."""


def main(arguments: Sequence[str]) -> int:
    """Exit status 0; 1 where a request failed or an answer was wrong; 2 for a bad command."""
    options = _parse(arguments)
    console = Console(width=None if sys.stdout.isatty() else _WIDTH)
    try:
        require_wrk()
        reports = [_run(name, options, console) for name in options.names or BENCHMARKS]
    except (LoadFailed, NotPrepared, ServerDied, WrongAnswer, LookupError) as error:
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
    parser.add_argument("--quick", action="store_true", help="one round of a second a point")
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
