"""`modelyard doctor`: a healthy home, what a killed publish left, and a server in the way."""

from collections.abc import Callable
from typing import Any


def states(report: Any) -> dict[str, str]:
    return {check["name"]: check["state"] for check in report["checks"]}


def test_a_healthy_home(leavers: Any) -> None:
    """Versions, extras, ports, home, disk and every byte: all well."""
    report = leavers.json("doctor", MODELYARD_PORT="0", MODELYARD_GRPC_PORT="0")
    assert report["healthy"] is True
    assert set(states(report).values()) == {"ok"}
    assert {"python", "extra sklearn", "port", "home", "disk", "registry", "bundles"} <= set(
        states(report)
    )


def test_what_died_publishes_left_is_collected(leavers: Any) -> None:
    """A staging folder that nobody holds and a blob that nobody needs: found, then collected."""
    (leavers.home / "staging" / "1-dead").mkdir(parents=True)
    stray = leavers.home / "blobs" / "sha256" / ("0" * 64)
    stray.write_bytes(b"stray")
    found = states(leavers.json("doctor", status=1))
    assert found["staging/1-dead"] == found["sha256:" + "0" * 64] == "bad"
    assert found["leftovers"] == "note"
    repaired = leavers.json("doctor", "--repair")
    assert {each["name"] for each in repaired["repaired"]} == {
        "staging/1-dead",
        "sha256:" + "0" * 64,
    }
    assert repaired["healthy"] is True
    assert not stray.exists()
    assert leavers.json("models")[0]["latest"] == 2


def test_a_port_that_is_taken_is_noted(leavers: Any, start_server: Callable[..., Any]) -> None:
    """A server may well be running: said, and not called unhealthy."""
    server = start_server(leavers.home)
    report = leavers.json("doctor", MODELYARD_PORT=str(server.port))
    assert states(report)["port"] == "note"
    assert report["healthy"] is True


def test_a_home_that_cannot_be_used_is_unhealthy(modelyard: Any) -> None:
    """The rest is still told."""
    modelyard.home.write_text("a file")
    report = modelyard.json("doctor", status=1)
    assert states(report)["home"] == "bad"
    assert states(report)["python"] == "ok"
