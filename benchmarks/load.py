"""Load from wrk: a fixed number of connections, each with one request in flight, for some seconds.

wrk is native and costs a few microseconds a request, so that the server and not the generator
is what is measured; what it costs itself is reported all the same.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import msgspec

_MARK: Final = "wrk-result "
_TIMEOUT_S: Final = 30
_MARGIN_S: Final = 30
"""Past its duration and this, wrk is killed: no load is unbounded."""


class LoadFailed(RuntimeError):
    """The load could not be run; the message says what to do."""


class Load(msgspec.Struct, frozen=True):
    """What the generator saw. Of a closed loop: a slow answer delays the next request."""

    seconds: float
    requests: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    bad_statuses: int
    socket_errors: int
    client_cpu_s: float
    client_processes: int = 1

    @property
    def per_second(self) -> float:
        """Requests answered a second, good or bad."""
        return self.requests / self.seconds

    @property
    def errors(self) -> int:
        """Requests that did not get a good status."""
        return self.bad_statuses + self.socket_errors


class _Summary(msgspec.Struct, frozen=True):
    """The line that the Lua script prints; times in microseconds, as wrk counts."""

    duration: float
    requests: int
    p50: float
    p99: float
    max: float
    connect: int
    read: int
    write: int
    timeout: int
    status: int


_SCRIPT: Final = """\
local asked = {{
{asked}
}}
local headers = {{ {headers} }}
local requests, turn = {{}}, 0

function init(arguments)
  for i, each in ipairs(asked) do
    requests[i] = wrk.format("POST", each[1], headers, each[2])
  end
end

-- Another request each time, so that no server can answer from a cache of one.
function request()
  turn = turn % #requests + 1
  return requests[turn]
end

function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{mark}{{"duration":%d,"requests":%d,"p50":%f,"p99":%f,"max":%f,' ..
    '"connect":%d,"read":%d,"write":%d,"timeout":%d,"status":%d}}\\n',
    summary.duration, summary.requests,
    latency:percentile(50), latency:percentile(99), latency.max,
    e.connect, e.read, e.write, e.timeout, e.status))
end
"""

_PAUSES: Final = """
-- As likely short as long, so that connections do not fall into step.
function delay()
  return math.random(0, {most_ms})
end
"""


def require_wrk() -> str:
    """The path of wrk. Raises `LoadFailed` where it is not installed."""
    path = shutil.which("wrk")
    if path is None:
        raise LoadFailed("wrk is not installed; on Debian and Ubuntu: apt-get install -y wrk")
    return path


def run_load(
    url: str,
    headers: Mapping[str, str],
    asked: Sequence[tuple[str, bytes]],
    *,
    connections: int,
    seconds: int,
    pause_ms: int = 0,
) -> Load:
    """Post each path and body in turn over so many connections; one thread of wrk.

    Each connection pauses between an answer and its next request, `pause_ms` on average.
    """
    with TemporaryDirectory() as folder:
        script = Path(folder) / "load.lua"
        script.write_text(write_script(headers, asked, pause_ms), "ascii")
        arguments = ["-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={_TIMEOUT_S}s"]
        command = [require_wrk(), *arguments, "-s", str(script), url]
        output, cpu_s = _run(command, seconds + _MARGIN_S)
    return parse_output(output, cpu_s)


def write_script(
    headers: Mapping[str, str], asked: Sequence[tuple[str, bytes]], pause_ms: int = 0
) -> str:
    """The Lua script for these paths and bodies; bodies may hold any byte."""
    script = _SCRIPT + _PAUSES if pause_ms else _SCRIPT
    return script.format(
        most_ms=2 * pause_ms,
        asked="\n".join(f"  {{{_quote(path.encode())}, {_quote(body)}}}," for path, body in asked),
        headers=", ".join(
            f"[{_quote(name.encode())}] = {_quote(value.encode())}"
            for name, value in headers.items()
        ),
        mark=_MARK,
    )


def parse_output(output: str, client_cpu_s: float) -> Load:
    """Read what the script printed. Raises `LoadFailed` where the line is missing or odd."""
    lines = [line for line in output.splitlines() if line.startswith(_MARK)]
    if len(lines) != 1:
        raise LoadFailed(f"wrk printed no result:\n{output}")
    try:
        seen = msgspec.json.decode(lines[0].removeprefix(_MARK), type=_Summary)
    except msgspec.MsgspecError as error:
        raise LoadFailed(
            f"wrk printed a result that cannot be read ({error}): {lines[0]}"
        ) from None
    return Load(
        seconds=seen.duration / 1e6,
        requests=seen.requests,
        p50_ms=seen.p50 / 1e3,
        p99_ms=seen.p99 / 1e3,
        max_ms=seen.max / 1e3,
        bad_statuses=seen.status,
        socket_errors=seen.connect + seen.read + seen.write + seen.timeout,
        client_cpu_s=client_cpu_s,
    )


def _run(command: Sequence[str], limit_s: float) -> tuple[str, float]:
    before = os.times()
    started = time.monotonic()
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        waited = time.monotonic() - started
        raise LoadFailed(f"wrk had not ended after {waited:.0f} s and was killed") from None
    after = os.times()
    output = done.stdout.decode("utf-8", "replace")
    if done.returncode != 0:
        raise LoadFailed(f"wrk ended with status {done.returncode}:\n{output}")
    cpu_s = after.children_user - before.children_user
    return output, cpu_s + after.children_system - before.children_system


def _quote(data: bytes) -> str:
    """A Lua string literal, plain where it can be read and `\\ddd` elsewhere."""
    plain = (
        chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in data
    )
    return f'"{"".join(plain)}"'
