"""How the administration speaks HTTP: problems, ETags, repeats, pages, bounds."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import psycopg
import pytest
from sqlalchemy.engine import make_url

from modelyard.bundle.staging import staging_folder
from modelyard.core.config import Config
from modelyard.core.identity import Actor
from modelyard.gateway.access import KeyedAccess
from modelyard.registry.administration.local import LocalReception
from modelyard.registry.administration.office import Office
from modelyard.testing.administered import administered
from modelyard.wiring.administration import make_reception
from modelyard.wiring.registry import blob_store, open_registry
from tests.integration.administration.conftest import Place


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/nope", {}, 404, "unknown_path"),
        ("GET", "/models/nope", {}, 404, "unknown_model"),
        ("PATCH", "/models", {}, 405, "method_not_allowed"),
        ("POST", "/keys", {"content": b"{"}, 415, "unsupported_content_type"),
        ("POST", "/keys", {"json": []}, 400, "bad_request"),
        ("POST", "/keys", {"json": {}}, 400, "missing_field"),
        ("POST", "/keys", {"json": {"name": 1}}, 400, "bad_field"),
        ("POST", "/keys", {"json": {"name": "a", "nmae": "b"}}, 400, "unknown_field"),
        ("POST", "/keys", {"json": {"name": "a\0"}}, 400, "bad_field"),
        ("POST", "/limits", {"json": {"kind": "quota", "amount": 2**63}}, 400, "bad_field"),
        ("GET", "/models?limit=x", {}, 400, "bad_field"),
        ("GET", "/models?limit=1&limit=2", {}, 400, "repeated_field"),
        ("GET", "/models?page=1", {}, 400, "unknown_field"),
        ("POST", "/keys", {"content": b" " * (1024 * 1024 + 1)}, 413, "body_too_large"),
        ("POST", "/versions", {"content": b"x"}, 415, "unsupported_content_type"),
        ("POST", "/routes/iris/promote", {"json": {}}, 409, "not_deployed"),
    ],
)
def test_every_error_is_a_problem(
    admin: httpx.Client, method: str, path: str, options: dict[str, object], status: int, code: str
) -> None:
    """RFC 9457, with the code, the field at fault, and the request's id."""
    response = admin.request(method, path, headers={"x-request-id": "r-1"}, **options)  # type: ignore[arg-type]
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["type"] == f"urn:modelyard:error:{code}"
    assert problem["instance"] == "/api/v1" + path.partition("?")[0]
    assert problem["request_id"] == response.headers["x-request-id"] == "r-1"
    assert problem["title"]
    assert problem["detail"]


def test_a_405_says_what_is_allowed(admin: httpx.Client) -> None:
    """RFC 9110, 15.5.6."""
    assert "GET" in admin.patch("/models").headers["allow"]


def test_nested_fields_that_there_are_none_of_are_told(admin: httpx.Client) -> None:
    """A typing mistake deep in a policy is no silent default."""
    etag = admin.get("/policy").headers["etag"]
    response = admin.put(
        "/policy",
        json={"policy": {"captures": [{"models": "a", "shaer": 1}]}},
        headers={"if-match": etag},
    )
    assert response.json()["field"] == "policy.captures.shaer"


def test_a_change_under_an_etag_happens_only_to_what_was_read(
    place: Place, admin: httpx.Client
) -> None:
    """412 when somebody was there before; what was sent is then not done."""
    read = admin.get("/routes/churn")
    first = admin.post(
        "/routes/churn/deploy", json={"number": 2}, headers={"if-match": read.headers["etag"]}
    )
    assert first.status_code == 200
    assert first.headers["etag"] == admin.get("/routes/churn").headers["etag"]
    stale = admin.post(
        "/routes/churn/deploy", json={"number": 1}, headers={"if-match": read.headers["etag"]}
    )
    assert (stale.status_code, stale.json()["code"]) == (412, "stale")
    [route] = place.registry.routes()
    assert route.number == 2
    absent = admin.post("/routes/iris/deploy", json={}, headers={"if-match": read.headers["etag"]})
    assert absent.status_code == 412
    new = admin.post("/routes/iris/deploy", json={}, headers={"if-none-match": "*"})
    assert new.status_code == 200
    assert (
        admin.post("/routes/iris/deploy", json={}, headers={"if-none-match": "*"}).status_code
        == 412
    )
    known = admin.get("/routes/churn", headers={"if-none-match": first.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


def test_the_policy_is_changed_only_by_who_has_read_it(admin: httpx.Client) -> None:
    """428 without If-Match, 412 with an older one."""
    policy = {"policy": {"formats": ["onnx"]}}
    etag = admin.get("/policy").headers["etag"]
    assert admin.put("/policy", json=policy).status_code == 428
    done = admin.put("/policy", json=policy, headers={"if-match": etag})
    assert done.status_code == 200
    assert done.headers["etag"] == admin.get("/policy").headers["etag"]
    assert admin.put("/policy", json=policy, headers={"if-match": etag}).status_code == 412


def test_a_created_thing_says_where_it_lies(admin: httpx.Client) -> None:
    """Its Location answers."""
    made = admin.post("/keys", json={"name": "a"})
    assert made.status_code == 201
    assert made.headers["cache-control"] == "no-store"
    found = admin.get(made.headers["location"].removeprefix("/api/v1"))
    assert found.json() == made.json()["record"]


def test_a_repeat_gets_the_first_answer_and_is_done_once(place: Place, admin: httpx.Client) -> None:
    """Also of a key, whose secret is nowhere in the database."""
    headers = {"idempotency-key": "one-and-only-once"}
    before = len(place.registry.keys.list())
    first = admin.post("/keys", json={"name": "a"}, headers=headers)
    again = admin.post("/keys", json={"name": "a"}, headers=headers)
    assert again.status_code == first.status_code == 201
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["idempotency-replayed"] == "true"
    assert len(place.registry.keys.list()) == before + 1
    secret = first.json()["text"].rpartition("_")[2].encode()
    for file in place.home.glob("registry.db*"):
        assert secret not in file.read_bytes()
        assert b"one-and-only-once" not in file.read_bytes()
    other = admin.post("/keys", json={"name": "b"}, headers=headers)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    with place.client() as somebody:
        assert somebody.post("/keys", json={"name": "b"}, headers=headers).status_code == 201


def test_a_repeat_is_answered_though_its_etag_has_become_stale(admin: httpx.Client) -> None:
    """It was sent again because the first answer was lost, not because things changed."""
    headers = {
        "idempotency-key": "k1",
        "if-match": admin.get("/routes/churn").headers["etag"],
    }
    first = admin.post("/routes/churn/deploy", json={"number": 2}, headers=headers)
    again = admin.post("/routes/churn/deploy", json={"number": 2}, headers=headers)
    assert (again.status_code, again.content) == (200, first.content)


def test_what_failed_is_not_remembered(admin: httpx.Client) -> None:
    """It has changed nothing, and may work the next time."""
    headers = {"idempotency-key": "k1"}
    failed = admin.post("/routes/iris/promote", json={}, headers=headers)
    assert failed.status_code == 409
    admin.post("/routes/iris/deploy", json={})
    assert admin.post("/routes/iris/promote", json={}, headers=headers).status_code == 409
    assert admin.post("/routes/iris/deploy", json={}, headers=headers).status_code == 200


def test_repeats_at_the_same_time_are_done_once(place: Place, admin: httpx.Client) -> None:
    """Ten that race give one key and ten equal answers."""
    before = len(place.registry.keys.list())
    answers: list[httpx.Response] = []

    def ask() -> None:
        answers.append(admin.post("/keys", json={"name": "a"}, headers={"idempotency-key": "race"}))

    threads = [threading.Thread(target=ask) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert len(place.registry.keys.list()) == before + 1


@pytest.mark.parametrize("key", ["x" * 256, "a\tb", "\xe4"])
def test_an_idempotency_key_is_short_and_plain(admin: httpx.Client, key: str) -> None:
    """Anything else is refused."""
    response = admin.post(
        "/keys", json={"name": "a"}, headers={b"idempotency-key": key.encode("latin-1")}
    )
    assert response.json()["code"] == "bad_idempotency_key"


def test_who_changes_something_is_in_the_audit(place: Place, admin: httpx.Client) -> None:
    """With the address of the socket and the request's id, whatever headers claim."""
    admin.post(
        "/routes/churn/deploy",
        json={"number": 2, "reason": "because"},
        headers={"x-request-id": "req-7", "x-forwarded-for": "6.6.6.6"},
    )
    row = place.registry.audit(model="churn", limit=1)[0]
    assert (row.action, row.actor, row.reason) == ("deploy", "admin", "because")
    assert (row.source, row.request_id, row.tenant) == ("127.0.0.1", "req-7", "default")


def test_a_registry_that_is_down_is_a_503(tmp_path: Path, postgres_url: str) -> None:
    """Administration says so, as a problem, to keys that are known; when it is back, it answers."""
    config = Config(home=tmp_path / "home", database_url=postgres_url)
    with open_registry(config) as registry:
        key = registry.keys.create(name="a", role="admin", actor="test").text
        known = KeyedAccess(registry.rules(None))
        reception = make_reception(config, registry)
        url = make_url(postgres_url)
        with (
            administered(registry, reception, access=known) as server,
            httpx.Client(
                base_url=server.url, headers={"authorization": f"Bearer {key}"}, timeout=30.0
            ) as client,
            psycopg.connect(
                host=str(url.query["host"]), user=url.username, dbname="postgres", autocommit=True
            ) as postgres,
        ):
            assert client.get("/api/v1/models").status_code == 200
            postgres.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS false")
            postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                [url.database],
            )
            try:
                answers = [
                    client.get("/api/v1/models"),
                    client.post("/api/v1/keys", json={"name": "b"}),
                    client.post(
                        "/api/v1/keys", json={"name": "b"}, headers={"idempotency-key": "k"}
                    ),
                ]
            finally:
                postgres.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS true")
            for answer in answers:
                assert answer.status_code == 503, answer.text
                assert answer.json()["kind"] == "unavailable"
            assert client.get("/api/v1/models").status_code == 200


def test_lines_come_one_by_one(admin: httpx.Client) -> None:
    """The audit's export is JSON lines."""
    response = admin.get("/audit/export")
    assert response.headers["content-type"].startswith("application/jsonl")
    assert all(json.loads(line) for line in response.text.splitlines())
    assert len(response.text.splitlines()) > 3


def test_those_who_wait_hold_up_nobody_who_revokes_a_key(tmp_path: Path) -> None:
    """However many wait for servers: what is quick is done meanwhile."""
    config, waiting = Config(home=tmp_path / "home"), threading.Event()

    def settle(model: str, generation: int | None, patience_s: float) -> list[str]:
        waiting.wait(30)
        return []

    with open_registry(config) as registry:
        office = Office(
            registry=registry,
            blobs=blob_store(config),
            home=config.home,
            actor=Actor(name="nobody"),
            settle=settle,
            look=list,
        )
        reception = LocalReception(office, 1024, partial(staging_folder, config.home))
        admin = registry.keys.create(name="a", role="admin", actor="test")
        reader = registry.keys.create(name="r", role="deployer", actor="test")
        with (
            administered(registry, reception) as server,
            ThreadPoolExecutor(20) as pool,
            httpx.Client(base_url=server.url + "/api/v1", timeout=30) as client,
        ):
            client.headers["authorization"] = f"Bearer {reader.text}"
            follows = [pool.submit(client.post, "/routes/churn/follow", json={}) for _ in range(20)]
            try:
                revoked = client.post(
                    f"/keys/{reader.record.id}/revoke",
                    json={},
                    headers={"authorization": f"Bearer {admin.text}"},
                    timeout=15,
                )
                assert revoked.status_code == 200
            finally:
                waiting.set()
            assert {follow.result().status_code for follow in follows} <= {200, 401}
