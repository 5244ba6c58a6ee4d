import http.server
import shutil
import threading
from collections.abc import Iterator

import pytest

from benchmarks.load import LoadFailed, parse_output, run_load, write_script

needs_wrk = pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")

OUTPUT = """\
Running 1s test @ http://127.0.0.1:1
  1 threads and 8 connections
Requests/sec:  11999.00
wrk-result {"duration":1000123,"requests":12000,"p50":512.000000,"p99":2048.000000,\
"max":9000.000000,"connect":1,"read":2,"write":3,"timeout":4,"status":5}
"""


def test_times_are_read_in_milliseconds_and_seconds() -> None:
    """wrk counts microseconds; a load holds milliseconds and seconds."""
    load = parse_output(OUTPUT, client_cpu_s=0.25)
    assert load.seconds == 1.000123
    assert (load.p50_ms, load.p99_ms, load.max_ms) == (0.512, 2.048, 9.0)
    assert load.per_second == pytest.approx(12000 / 1.000123)
    assert load.client_cpu_s == 0.25


def test_every_kind_of_error_counts() -> None:
    """Bad statuses and the four failures of a socket are all errors."""
    load = parse_output(OUTPUT, client_cpu_s=0)
    assert (load.bad_statuses, load.socket_errors, load.errors) == (5, 10, 15)


@pytest.mark.parametrize(
    "output",
    ["", "unable to connect to 127.0.0.1:1", "wrk-result {", OUTPUT + OUTPUT, "wrk-result {}"],
)
def test_output_without_one_whole_result_is_refused(output: str) -> None:
    """A load that wrk did not finish must not become a number."""
    with pytest.raises(LoadFailed):
        parse_output(output, client_cpu_s=0)


def test_a_body_of_any_bytes_becomes_plain_ascii() -> None:
    """The script is ASCII whatever the body holds, digits behind an escape included."""
    script = write_script({"A": 'b"c'}, [("/p", bytes(range(256))), ("/q", b"\x001")])
    assert script.isascii()
    assert '"\\0001"' in script
    assert '["A"] = "b\\034c"' in script


class _Recorder(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    seen: set[tuple[str, str | None, bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.seen.add((self.path, self.headers["X-Kind"], body))
        self.send_response(500 if body == b"bad" else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Silent."""


@pytest.fixture
def recorder() -> Iterator[tuple[str, set[tuple[str, str | None, bytes]]]]:
    seen: set[tuple[str, str | None, bytes]] = set()
    handler = type("Recorder", (_Recorder,), {"seen": seen})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}", seen
        server.shutdown()
        thread.join()


@needs_wrk
def test_bodies_arrive_byte_for_byte_in_turn(
    recorder: tuple[str, set[tuple[str, str | None, bytes]]],
) -> None:
    """What wrk posts is exactly what was given, and bad statuses are counted."""
    url, seen = recorder
    bodies = [bytes(range(256)), b'{"a": "\\n"}', b"bad"]
    asked = list(zip(["/p", "/q", "/p"], bodies, strict=True))
    load = run_load(url, {"X-Kind": "k"}, asked, connections=2, seconds=1)
    assert seen == {(path, "k", body) for path, body in asked}
    assert load.requests > 10
    assert load.bad_statuses == pytest.approx(load.requests / 3, abs=5)
    assert load.socket_errors == 0
    assert load.client_cpu_s > 0


@needs_wrk
def test_a_server_that_is_not_there_is_no_result() -> None:
    """With nobody listening there is a reason, and no number that looks like speed."""
    with pytest.raises(LoadFailed, match="unable to connect"):
        run_load("http://127.0.0.1:1", {}, [("/", b"")], connections=1, seconds=1)
