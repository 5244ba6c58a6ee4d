"""A change of a route is in force in every worker when its command returns."""

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable
from typing import Any

ROW = json.dumps({"age": 40.0, "visits": 3, "code": "0456", "member": True}).encode()


def ask(url: str) -> int:
    """The version that answers over a connection of its own, which any worker may take; 0: none."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{url}/predict/leavers", ROW), timeout=10
        ) as answer:
            return int(json.load(answer)["version"])
    except urllib.error.HTTPError as refused:
        if refused.code != 404:
            raise
        return 0


def test_a_change_is_in_force_everywhere_when_its_command_returns(
    leavers: Any, start_server: Callable[..., Any]
) -> None:
    """Deploy, roll back and undeploy with three workers: no call after it meets the old route."""
    server = start_server(leavers.home, "--workers", 3)
    for verb, version in (
        (("deploy", "leavers:2"), 2),
        (("rollback", "leavers"), 1),
        (("undeploy", "leavers"), 0),
        (("deploy", "leavers:1"), 1),
    ):
        leavers(*verb)
        assert Counter(ask(server.url) for _ in range(12)) == {version: 12}


def test_what_a_server_cannot_serve_is_said_by_deploy(
    leavers: Any, start_server: Callable[..., Any]
) -> None:
    """The route stands, the reason is told, and the version before goes on answering."""
    server = start_server(leavers.home)
    for blob in (leavers.home / "blobs").rglob("*"):
        if blob.is_file() and blob.stat().st_size > 500:
            blob.chmod(0o600)
            blob.write_bytes(b"damaged" + blob.read_bytes()[7:])
    said = leavers("deploy", "leavers:2").stderr.decode()
    assert "WARNING" in said
    assert "modelyard status" in said
    assert ask(server.url) == 1


def test_nobody_is_waited_for_where_no_server_runs(leavers: Any) -> None:
    """Without a server, or with `--wait 0`, the command returns at once."""
    leavers("deploy", "leavers:2")
    leavers("rollback", "leavers", "--wait", 0)
