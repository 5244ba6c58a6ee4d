"""A full disk: calls that cannot be recorded are counted, and changes that cannot be audited are
not made."""

import itertools
from collections.abc import Callable
from pathlib import Path

import httpx

from modelyard.core.call import Outcome
from modelyard.core.errors import Exhausted
from modelyard.registry.registry import Registry
from tests.e2e.promises.keyed import (
    MODEL,
    OFFSETS,
    bearer,
    call,
    header_line,
    keyed,
    spool_state,
    until,
)
from tests.e2e.promises.stage import loaded
from tests.outages import fill

SPOOL_BYTES = 2**20
"""Of some thousand events."""


def test_what_cannot_be_recorded_is_counted(small_disk: Path, tmp_path: Path) -> None:
    """The disk is full and then the spool: calls are answered, the status says how many are
    unrecorded and why, and so does the report once there is room again."""
    home_at = small_disk / "home"
    with (
        keyed(tmp_path, home=home_at, spool_bytes=SPOOL_BYTES) as home,
        home.serving(workers=1) as server,
    ):
        key = home.key()
        until(lambda: call(server, key) == 200)
        ballast = small_disk / "ballast"
        fill(ballast)
        headers = header_line(key)
        with loaded(server, MODEL, OFFSETS, per_second=0, headers=headers) as load:
            until(lambda: spool_state(server).unrecorded > 0)
            assert spool_state(server).trouble
            tallies = load.stop()
        assert [tally.bad for tally in tallies] == [0, 0]
        unrecorded = spool_state(server).unrecorded
        ballast.unlink()
        until(lambda: spool_state(server).waiting == 0)
        until(lambda: spool_state(server).trouble == "")
        assert call(server, key) == 200
        recorded = sum(tally.good for tally in tallies) + 2 - unrecorded
        until(lambda: home.outcomes(key)[Outcome.OK] == recorded)
        report = home.yard.registry.usage.report()
        assert sum(each.calls for each in report.unrecorded) == unrecorded
        assert {each.key for each in report.unrecorded} == {key.record.id}
        assert home.reconcile().differences == ()


def test_what_cannot_be_audited_is_not_done(small_disk: Path, tmp_path: Path) -> None:
    """On this machine and over the network a change is refused whole; with room it is made."""
    with (
        keyed(tmp_path, home=small_disk / "home", spool_bytes=SPOOL_BYTES) as home,
        home.serving(workers=1) as server,
        httpx.Client(base_url=server.url) as client,
    ):
        key, admin = home.key(), home.key("admin", role="admin")
        until(lambda: call(server, admin) == 200)
        client.headers.update(bearer(admin))
        ballast = small_disk / "ballast"
        fill(ballast)
        # What little room the log of the database still has is used up first.
        amounts = itertools.count(1)
        until(lambda: not is_done(lambda: home.limit("rate", next(amounts), models="another")))
        before = everything(home.yard.registry)
        for path, body in (
            ("/api/v1/keys", {"name": "new"}),
            (f"/api/v1/keys/{key.record.id}/revoke", {}),
            ("/api/v1/routes/sum/deploy", {"number": 2}),
        ):
            answer = client.post(path, json=body)
            assert answer.status_code in (429, 503, 507), answer.text
            assert answer.json()["code"] == "disk_full"
        for change in (
            lambda: home.key("another"),
            lambda: home.yard.registry.keys.revoke(key.record.id, actor="test"),
            lambda: home.yard.registry.deploy("sum", 2, actor="test"),
        ):
            assert not is_done(change)
        assert everything(home.yard.registry) == before
        assert call(server, key) == 200
        ballast.unlink()
        home.yard.registry.keys.revoke(key.record.id, actor="test")
        until(lambda: call(server, key) == 401)
        home.assert_audit_is_whole()


def is_done(change: Callable[[], object]) -> bool:
    """Whether there was room for it."""
    try:
        change()
    except Exhausted as error:
        assert error.code == "disk_full"  # noqa: PT017 - either end is good
        return False
    return True


def everything(registry: Registry) -> list[object]:
    """What a change would have changed, and its audit."""
    rows = registry.trail.rows(limit=10_000)
    return [registry.keys.list(), registry.routes(), registry.limits.list(), rows]
