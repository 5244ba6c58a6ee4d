"""A node that dies as a whole, one that starts anew, and two on one home: nothing twice, nothing
lost."""

import contextlib
import json
import subprocess
from pathlib import Path

import psutil
import pytest

from modelyard.core.call import Outcome
from tests.e2e.conftest import PATIENCE_S, Command, Server
from tests.e2e.promises.keyed import (
    MODEL,
    OFFSETS,
    call,
    header_line,
    keyed,
    kill_node,
    spool_state,
    stop,
    until,
)
from tests.e2e.promises.stage import loaded
from tests.outages import refusing

QUOTA = 900


def test_a_node_that_was_killed_goes_on_where_it_was(tmp_path: Path, postgres_url: str) -> None:
    """With all that it held, under traffic of both protocols: what was answered is metered once
    and was charged, and what was not is there for callers after it."""
    with keyed(tmp_path, database_url=postgres_url) as home:
        key = home.key()
        quota = home.limit("quota", QUOTA)
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(home.serving())
            load = stack.enter_context(loaded(server, MODEL, OFFSETS, headers=header_line(key)))
            load.more(100)
            kill_node(server)
            first = load.stop()
        with home.serving() as server:
            # The spools of the dead are copied by those who come after them.
            lost = sum(tally.lost for tally in first)
            good = sum(tally.good for tally in first)
            until(lambda: home.outcomes(key)[Outcome.OK] >= good)
            with loaded(server, MODEL, OFFSETS, headers=header_line(key)) as load:
                for driven in (load.http, load.grpc):
                    driven.wait(lambda tally: sum(tally.statuses.values()) > 20)
                again = load.stop()
            stop(server)
        total = good + sum(tally.good for tally in again)
        assert QUOTA - lost <= total <= QUOTA
        assert {name for tally in again for name in tally.statuses} == {"429", "RESOURCE_EXHAUSTED"}
        home.assert_all_copied()
        assert total <= home.outcomes(key)[Outcome.OK] <= total + lost
        standing = home.standing(quota)
        assert (standing.spent, standing.leased, standing.lost) == (QUOTA, 0, 0)
        home.assert_audit_is_whole()
        home.yard.registry.keys.revoke(key.record.id, actor="test")
        home.assert_audit_is_whole()


def test_a_killed_node_starts_without_its_database(
    tmp_path: Path, postgres_server: str, postgres_url: str
) -> None:
    """It knows by its snapshot whom it knew, serves what it served, and its spool waits."""
    with keyed(tmp_path, database_url=postgres_url) as home:
        key, dead = home.key(), home.key("dead")
        home.yard.registry.keys.revoke(dead.record.id, actor="test")
        with contextlib.ExitStack() as stack:
            server = stack.enter_context(home.serving())
            for _ in range(10):
                until(lambda: call(server, key) == 200)
            snapshot = home.home / "registry.snapshot"
            until(lambda: snapshot.exists() and key.record.id.encode() in snapshot.read_bytes())
            with refusing(postgres_server, postgres_url):
                kill_node(server)
                again = stack.enter_context(home.serving())
                assert [call(again, key) for _ in range(10)] == [200] * 10
                assert call(again, dead) == 401
                assert call(again, "my_" + "a" * 12 + "_" + "a" * 52) == 503
                assert spool_state(again).waiting >= 10
            until(lambda: home.outcomes(key)[Outcome.OK] == 20)
            stop(again)
        home.assert_all_copied()


def test_one_start_in_all_tells_the_first_key(tmp_path: Path) -> None:
    """Two servers with two workers each that begin a home together, and one that was killed just
    after it: the administrator's key is told once, by one of them, and never again."""
    command = Command(tmp_path / "home")
    told = []
    servers = [start(command) for _ in range(2)]
    try:
        for each in servers:
            assert each.stdout is not None
            told.append(json.loads(each.stdout.readline()))
    finally:
        end(*servers)
    again = start(command)
    try:
        assert again.stdout is not None
        told.append(json.loads(again.stdout.readline()))
    finally:
        end(again)
    (key,) = [each["admin_key"] for each in told if "admin_key" in each]
    assert "admin_key" not in told[2]
    records = command.json("keys", "list")
    assert isinstance(records, list)
    assert [key.startswith(f"my_{record['id']}_") for record in records] == [True]


def start(command: Command) -> "subprocess.Popen[bytes]":
    """A server that makes its own first key."""
    line = command.line("serve", "--port", 0, "--grpc-port", 0, "--json", "--workers", 2)
    return subprocess.Popen(line, stdout=subprocess.PIPE, env=command.environment())


def end(*servers: "subprocess.Popen[bytes]") -> None:
    """Kill each with its workers."""
    for each in servers:
        kill_node(Server(Path(), "", 0, 0, each.pid))
        each.wait(PATIENCE_S)
        if each.stdout is not None:
            each.stdout.close()


@pytest.mark.parametrize("how", ["ended", "killed"])
def test_two_servers_on_one_home_are_one_node(tmp_path: Path, how: str) -> None:
    """They share its counts and its spool folder: one quota, and no event twice when one of them
    goes and the other one copies what it left."""
    with keyed(tmp_path) as home:
        key = home.key()
        quota = home.limit("quota", QUOTA)
        with contextlib.ExitStack() as stack:
            one, two = (stack.enter_context(home.serving()) for _ in range(2))
            loads = [
                stack.enter_context(loaded(each, MODEL, OFFSETS, headers=header_line(key)))
                for each in (one, two)
            ]
            if how == "killed":
                kill_node(one)
            else:
                psutil.Process(one.pid).terminate()
            first = loads[0].stop()
            for driven in (loads[1].http, loads[1].grpc):
                driven.wait(lambda tally: sum(tally.statuses.values()) > 20)
            tallies = (*first, *loads[1].stop())
            good = sum(tally.good for tally in tallies)
            lost = sum(tally.lost for tally in tallies)
            assert lost == 0 or how == "killed"
            assert QUOTA - lost <= good <= QUOTA
            until(lambda: home.outcomes(key)[Outcome.OK] >= QUOTA - lost)
            stop(two)
        home.assert_all_copied()
        assert home.standing(quota).spent == QUOTA
        home.assert_audit_is_whole()
