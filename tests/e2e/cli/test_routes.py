"""Canary, shadow, options and roll-outs at the command line."""

from typing import Any


def test_a_canary_is_deployed_shown_promoted_and_rolled_back(leavers: Any) -> None:
    """Each verb says where calls go now, and the model shows it."""
    said = leavers("deploy", "leavers:2", "--canary", "10%", "--sticky", "X-User").stdout.decode()
    assert said == "calls to leavers go to version 1 (90%) and version 2 (10%, by x-user)\n"
    shown = leavers("models", "show", "leavers").stdout.decode()
    assert "calls go to version 1 (90%) and version 2 (10%, by x-user)" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert [line[2] for line in lines if line[:2] in (["1", "accepted"], ["2", "accepted"])] == [
        "90%",
        "10%",
    ]
    [canary] = [line for line in lines if "canary" in line]
    assert "1 (90%) and 2 (10%)" in " ".join(canary)
    assert leavers.json("promote", "leavers", "--reason", "it is better") == {
        "model": "leavers",
        "number": 2,
        "generation": 3,
        "targets": [{"version": 2, "percent": 100.0}],
        "shadow": None,
        "sticky": "x-user",
        "options": {},
    }
    assert leavers.json("rollback", "leavers")["targets"] == [
        {"version": 1, "percent": 90.0},
        {"version": 2, "percent": 10.0},
    ]


def test_a_shadow_gets_all_calls_or_a_share(leavers: Any) -> None:
    """The share may be left out, wherever the option stands."""
    whole = "calls to leavers go to version 1; version 2 gets a copy of 100% of them\n"
    assert leavers("deploy", "leavers:2", "--shadow").stdout.decode() == whole
    assert leavers("deploy", "--shadow", "leavers:2", "--reason", "x").stdout.decode() == whole
    half = leavers.json("deploy", "leavers:2", "--shadow", "50%")
    assert half["shadow"] == {"version": 2, "percent": 50.0}
    shown = leavers("models", "show", "leavers").stdout.decode()
    assert "version 2 gets a copy of 50% of them" in shown


def test_options_are_set_and_unset(leavers: Any) -> None:
    """Alone they leave the version as it is; what is wrong is told with what is right."""
    said = leavers("deploy", "leavers", "--set", "p99_ms=20", "--set", "lanes=2").stdout.decode()
    assert said == "calls to leavers go to version 1; with lanes=2, p99_ms=20.0\n"
    route = leavers.json("deploy", "leavers:2", "--unset", "lanes")
    assert (route["number"], route["options"]) == (2, {"p99_ms": 20.0})
    refused = leavers("deploy", "leavers", "--set", "p99=20", status=1)
    assert b"did you mean 'p99_ms'" in refused.stderr
    refused = leavers("deploy", "leavers", "--set", "lanes=none", status=1)
    assert b"'lanes' takes a whole number from 1 to 1024" in refused.stderr


def test_a_roll_out_is_begun_shown_and_stopped(leavers: Any) -> None:
    """Without a server nothing moves, and the model says so."""
    said = leavers(
        *("deploy", "leavers:2", "--progressive", "1%,10%,100%", "--every", "5m"),
        *("--guard", "error_rate<=0.1%, p99<=1.2x, agreement>=99%"),
    ).stdout.decode()
    assert "move from version 1 to 2 in 3 steps, beginning with 1%" in said
    shown = leavers("models", "show", "leavers").stdout.decode()
    assert "roll-out from version 1 to 2: step 1 of 3; no server moves it" in shown
    assert "version 1 gets a copy of 100% of those of the canary" in shown
    [rollout] = leavers.json("models", "show", "leavers")["rollouts"]
    assert (rollout["state"], rollout["plan"]["every_s"]) == ("running", 300.0)
    leavers("rollback", "leavers")
    [rollout] = leavers.json("models", "show", "leavers")["rollouts"]
    assert rollout["state"] == "stopped"
    assert "changed the route: rollback" in rollout["reason"]
    assert leavers.json("models")[0]["routed"] == 1


def test_wrong_use_is_told(leavers: Any) -> None:
    """Two ways at once, guards without a roll-out, and texts that are no shares."""
    for arguments, words, status in (
        (("--canary", "10%", "--shadow"), b"use one of", 2),
        (("--guard", "p99<=1ms"), b"--guard is for --progressive", 2),
        (("--canary", "ten"), b"write 10%", 1),
        (("--canary", "0%"), b"more than 0%", 1),
        (("--progressive", "10%,50%"), b"grow from above 0% to 100%", 1),
        (("--progressive", "10%,100%", "--guard", "p99<1ms"), b"is no guard", 1),
        (("--progressive", "10%,100%", "--every", "soon"), b"write 60s, 5m or 1h", 1),
    ):
        assert words in leavers("deploy", "leavers:2", *arguments, status=status).stderr
