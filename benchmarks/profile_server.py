"""Where a server's time goes under load: a flame graph by py-spy, or the stacks as text.

py-spy is no dependency of the project: `pip install py-spy` somewhere on the PATH.

    python -m benchmarks.profile_server modelyard --connections 64 --out profile.svg
    python -m benchmarks.profile_server fastapi --model net --format raw --out stacks.txt
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.comparison import FAILURES
from benchmarks.load import LoadFailed, require_wrk
from benchmarks.measure import check_answers, measure_point, running
from benchmarks.model import make_model
from benchmarks.servers import everybody

_RATE_HZ = 500
_MODELS = ("forest", "net", "encoder")


def main(arguments: Sequence[str]) -> int:
    """Exit status 0, or 1 where it could not be measured."""
    options = _parse(arguments)
    try:
        require_wrk()
        _profile(options)
    except FAILURES as error:
        print(f"failed: {error}", file=sys.stderr)
        return 1
    return 0


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    peers = {peer.name: peer for peer in everybody()}
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile_server")
    parser.add_argument("server", choices=peers)
    parser.add_argument("--model", choices=_MODELS, default=_MODELS[0])
    parser.add_argument("--form", help="of the server's forms; default: its first")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=int, default=10)
    formats = ("flamegraph", "speedscope", "raw")
    parser.add_argument("--format", choices=formats, default=formats[0])
    parser.add_argument("--native", action="store_true", help="show frames of C and C++ too")
    parser.add_argument("--out", type=Path, default=Path("profile.svg"))
    options = parser.parse_args(arguments)
    options.peer = peers[options.server]
    if shutil.which("py-spy") is None:
        parser.error("py-spy is not on the PATH: pip install py-spy")
    return options


def _profile(options: argparse.Namespace) -> None:
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model = make_model(options.model, folder)
        forms = {form.name: form for form in options.peer.forms(model)}
        form = forms.get(options.form or next(iter(forms)))
        if form is None:
            known = ", ".join(forms)
            raise LoadFailed(f"{options.server} has no form {options.form}; it has {known}")
        options.peer.prepare(model, folder)
        with running(options.peer, model, folder) as server:
            check_answers(server, form, options.connections)
            # py-spy ends by itself after its duration, which lies within the load's.
            spy = subprocess.Popen(_py_spy(options, server.process.pid))
            try:
                measured = measure_point(
                    server,
                    form,
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
