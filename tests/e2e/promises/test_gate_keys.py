"""Keys that leak and keys that are made up elsewhere: neither is here."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import grpc
import httpx
import psutil
import psycopg
import pytest

from tests.e2e.conftest import Command
from tests.e2e.promises.keyed import (
    MODEL,
    PATH,
    Keyed,
    bearer,
    call,
    call_over_grpc,
    keyed,
    kill_node,
    until,
)
from tests.e2e.promises.stage import http_body

WRONG = "my_" + "a" * 12 + "_" + "a" * 52


@pytest.fixture(params=["sqlite", "postgresql"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keyed]:
    """A home whose registry is of either kind."""
    settings = {}
    if request.param == "postgresql":
        settings["database_url"] = request.getfixturevalue("postgres_url")
    with keyed(tmp_path, **settings) as home:
        yield home


def test_no_key_lies_anywhere_in_plain_text(home: Keyed, request: pytest.FixtureRequest) -> None:
    """one-api, new-api keep keys as they are. Here a key of every birth (the first start, the
    command line, the API, a rotation) is used and then looked for: in each file of the home while
    the server runs, the database's own log included, in PostgreSQL's folder, in what the server
    writes, and in the command lines and environments of its processes."""
    command, keys = home.command, []
    line = command.line("serve", "--port", 0, "--grpc-port", 0, "--json", "--workers", 2)
    log = home.folder / "log"
    with log.open("wb") as sink:
        process = subprocess.Popen(
            line,
            stdout=subprocess.PIPE,
            stderr=sink,
            env=command.environment(**home.environment, MODELYARD_DEBUG="true"),
        )
    with process:
        try:
            assert process.stdout is not None
            told = json.loads(process.stdout.readline())
            url = f"http://{told['host']}:{told['port']}"
            keys.append(told["admin_key"])
            with httpx.Client(base_url=url, headers=bearer(keys[0]), timeout=30) as client:
                made = client.post("/api/v1/keys", json={"name": "by API"})
                made.raise_for_status()
                keys.append(key_in(made.text))
                id = keys[1].split("_")[1]
                rotated = client.post(f"/api/v1/keys/{id}/rotate", json={})
                rotated.raise_for_status()
                keys.append(key_in(rotated.text))
                done = command("keys", "create", "--name", "by command", **home.environment)
                keys.append(key_in(done.stdout.decode()))
                for key in (keys[0], keys[2], keys[3]):
                    until(
                        lambda key=key: (  # type: ignore[misc]
                            client.post(
                                PATH, content=http_body(1.0), headers=bearer(key)
                            ).status_code
                            == 200
                        )
                    )
            assert len(set(keys)) == 4
            places = [each for each in home.home.rglob("*") if each.is_file()]
            assert (home.home / "registry.db-wal") in places or home.yard.config.database_url
            if home.yard.config.database_url:
                with psycopg.connect(request.getfixturevalue("postgres_server")) as connection:
                    (folder,) = connection.execute("SHOW data_directory").fetchone() or ("",)
                places += [each for each in Path(folder).rglob("*") if each.is_file()]
            main = psutil.Process(told["pid"])
            processes = [main, *main.children(recursive=True)]
            assert len(processes) >= 3
            places += [Path(f"/proc/{each.pid}/{name}") for each in processes for name in _TOLD]
            found = [(place, key[:15]) for place in (*places, log) for key in holds(place, keys)]
            assert found == []
        finally:
            process.terminate()
            process.communicate(timeout=60)
    assert holds(log, keys) == []


_TOLD = ("cmdline", "environ")


def key_in(text: str) -> str:
    """The one key in an answer."""
    start = text.index("my_")
    return text[start : start + 68]


def holds(place: Path, keys: list[str]) -> list[str]:
    """Which of the keys a file has the secret of."""
    try:
        data = place.read_bytes()
    except OSError:
        # A file of the database that is gone again.
        return []
    return [key for key in keys if key[16:].encode() in data]


def test_a_failed_key_is_never_replaced_by_none(tmp_path: Path) -> None:
    """LiteLLM CVE-2026-59822. Where anybody may call without a key, a bad one opens nothing; nor
    does one beside a good one, nor one that cannot be read, over either protocol."""
    command = Command(tmp_path / "home")
    with keyed(tmp_path) as home:
        good = home.key("good")
        dead = home.key("dead")
        home.yard.registry.keys.revoke(dead.record.id, actor="test")
        with home.serving(workers=1, MODELYARD_OPEN="true") as server:
            until(lambda: call(server, good) == 200)
            url = server.url + PATH
            assert httpx.post(url, content=http_body(1.0)).status_code == 200
            for headers in (
                bearer(WRONG),
                bearer(dead),
                {"authorization": "Bearer"},
                {"authorization": ""},
                {"x-api-key": ""},
                {"authorization": "Bearer my_"},
                {"authorization": "Basic Og=="},
                {**bearer(good), "x-api-key": ""},
                {**bearer(good), "x-api-key": WRONG},
                {"authorization": f"Bearer {good.text}, Bearer"},
            ):
                status = httpx.post(url, content=http_body(1.0), headers=headers).status_code
                assert status in (401, 429), headers
            assert call_over_grpc(server, dead) in (
                grpc.StatusCode.UNAUTHENTICATED,
                grpc.StatusCode.RESOURCE_EXHAUSTED,
            )
    assert command.home.exists()


def test_who_deployed_what_is_told(tmp_path: Path) -> None:
    """mlflow#2169, open since 2019: by the API, by the command line on this machine, and undone by
    another one: `models history` and the audit name each, and when it was."""
    with keyed(tmp_path) as home:
        ann = home.key("ann", role="deployer")
        with home.serving(workers=1) as server:
            until(lambda: call(server, ann) == 200)
            answer = httpx.post(
                f"{server.url}/api/v1/routes/{MODEL}/deploy",
                json={"number": 2, "reason": "better on May"},
                headers={**bearer(ann), "x-request-id": "r-17"},
            )
            assert answer.status_code == 200, answer.text
            home.command("rollback", MODEL, "--reason", "worse on June")
            kill_node(server)
        rows = home.yard.registry.trail.rows(model=MODEL, limit=2)
        assert [(row.action, row.actor, row.reason) for row in rows] == [
            ("rollback", home.yard.actor.name, "worse on June"),
            ("deploy", "ann", "better on May"),
        ]
        assert (rows[1].key, rows[1].source, rows[1].request_id) == (
            ann.record.id,
            "127.0.0.1",
            "r-17",
        )
        told = home.command("models", "history", MODEL).stdout.decode()
        assert "ann" in told
        home.assert_audit_is_whole()
