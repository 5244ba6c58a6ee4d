"""Where a server's time goes under load: a flame graph by py-spy, or the stacks as text.

py-spy is no dependency of the project: `pip install py-spy` somewhere on the PATH.

    python -m benchmarks.profile_server modelyard --connections 64 --out profile.svg
    python -m benchmarks.profile_server fastapi --form json --format raw --out stacks.txt
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.forest import make_forest
from benchmarks.forest_http import everyone
from benchmarks.load import LoadFailed, require_wrk
from benchmarks.measure import check_answers, measure_point, running
from benchmarks.peer import NotPrepared, WrongAnswer
from benchmarks.processes import ServerDied

_RATE_HZ = 500


def main(arguments: Sequence[str]) -> int:
    """Exit status 0, or 1 where it could not be measured."""
    options = _parse(arguments)
    try:
        require_wrk()
        _profile(options)
    except (LoadFailed, NotPrepared, ServerDied, WrongAnswer) as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    peers = {peer.name: peer for peer in everyone()}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_server")
    parser.add_argument("server", choices=peers)
    parser.add_argument("--form", help="of the server's forms; default: its first")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10)
    formats = ("flamegraph", "speedscope", "raw")
    parser.add_argument("--format", choices=formats, default=formats[0])
    parser.add_argument("--native", action="store_true", help="show frames of C and C++ too")
    parser.add_argument("--out", type=Path, default=Path("profile.svg"))
    options = parser.parse_args(arguments)
    options.peer = peers[options.server]
    forms = {form.name: form for form in options.peer.forms}
    if options.form is not None and options.form not in forms:
        parser.error(f"{options.server} has no form {options.form}; it has {', '.join(forms)}")
    options.form = forms.get(options.form, options.peer.forms[0])
    if shutil.which("py-spy") is None:
        parser.error("py-spy is not on the PATH: pip install py-spy")
    return options


def _profile(options: argparse.Namespace) -> None:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        forest = make_forest(folder)
        options.peer.prepare(forest, folder)
        with running(options.peer, forest, folder) as server:
            check_answers(server, options.form, forest, options.connections)
            # py-spy ends by itself after its duration, which lies within the load's.
            spy = subprocess.Popen(_py_spy(options, server.process.pid))
            try:
                measured = measure_point(
                    server,
                    options.form,
                    forest,
                    options.connections,
                    seconds=options.seconds + 2,
                    warm_up_s=1,
                )
                status = spy.wait(timeout=30)
            finally:
                spy.kill()
    if status != 0:
        raise LoadFailed(f"py-spy ended with status {status}")
    print(
        f"{measured.per_second:,.0f}/s while watched, p50 {measured.p50_ms:.2f} ms, "
        f"{measured.server_cpu_us:.1f} µs of the server a request; written to {options.out}"
    )


def _py_spy(options: argparse.Namespace, pid: int) -> list[str]:
    watch = ["py-spy", "record", "--pid", str(pid), "--subprocesses"]
    when = ["--rate", str(_RATE_HZ), "--duration", str(options.seconds)]
    how = ["--format", options.format, "--output", str(options.out)]
    return [*watch, *when, *how, *(["--native"] if options.native else [])]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
