"""Nothing of the administration is done for who may not, whatever they ask, and however."""

import time
from collections.abc import Iterator

import httpx
import pytest

from modelyard.core.administration.operation import Operation
from modelyard.core.administration.paths import DOCUMENT, PREFIX
from modelyard.core.administration.table import OPERATIONS
from modelyard.core.identity import VERBS, Role
from tests.integration.administration.conftest import Place

PLACES = {
    "model": "churn",
    "reference": "churn:1",
    "alias": "champion",
    "id": "aaaaaaaaaaaa",
    "name": "default",
    "models": "churn",
    "number": "1",
}


def path_of(operation: Operation) -> str:
    return PREFIX + operation.path.format_map(PLACES)


@pytest.fixture
def stranger(place: Place) -> Iterator[httpx.Client]:
    """A client without any key."""
    with httpx.Client(base_url=place.url, timeout=30.0) as client:
        yield client


def ask(client: httpx.Client, operation: Operation, key: str) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    return client.request(operation.method, path_of(operation), headers=headers)


@pytest.mark.parametrize("is_open", [False, True], indirect=True, ids=["keyed", "open"])
def test_who_has_no_good_key_gets_401_everywhere(place: Place, stranger: httpx.Client) -> None:
    """Without, with a wrong, malformed, revoked or expired one: of every operation and path."""
    good = place.key()
    revoked = place.registry.keys.create(name="r", role="admin", actor="test")
    place.registry.keys.revoke(revoked.record.id, actor="test")
    expired = place.registry.keys.create(name="e", role="admin", lifetime_s=0.05, actor="test")
    time.sleep(0.06)
    bad = ["", "x", good[:-1], f"{good}a", revoked.text, expired.text, good.upper()]
    for operation in OPERATIONS:
        for key in bad:
            response = ask(stranger, operation, key)
            # One that guesses too often is told to wait, which is no better for it.
            assert response.status_code in (401, 429), (operation.name, response.text)
            assert response.headers["content-type"] == "application/problem+json"
            assert "sha256:" not in response.text
    for path in (DOCUMENT, PREFIX + "/", PREFIX + "/nope", PREFIX + "/models/a/b/c"):
        for method in ("GET", "POST", "PATCH", "DELETE", "OPTIONS"):
            response = stranger.request(method, path)
            assert response.status_code == 401, (method, path, response.text)


def test_tricks_with_paths_open_nothing(stranger: httpx.Client) -> None:
    """However a path is spelled, what answers without a key is never the administration."""
    for path in (
        "/api//v1/models",
        "//api/v1/models",
        "/api/v1/./models",
        "/api/v1/x/../models",
        "/api/v1/%2e%2e/v1/models",
        "/api/v1%2fmodels",
        "/API/V1/models",
        "/api/v1/models/",
        "/api/v1/models.",
        "/api/v1/models;x=1",
        "/api/v1/models%00",
        "/api/v1/models?key=my_x",
        "/v2/../api/v1/models",
    ):
        response = stranger.get(path, headers={"host": "evil.example"})
        assert response.status_code in (400, 401, 404), (path, response.text)
        assert "items" not in response.text


def test_a_role_does_what_its_verbs_say(place: Place, stranger: httpx.Client) -> None:
    """Of every operation: 403 for those whose role has not its verb, and never for others."""
    keys = {role: place.key(role) for role in Role}
    for operation in OPERATIONS:
        for role, key in keys.items():
            response = ask(stranger, operation, key)
            told = (operation.name, role, response.text)
            if operation.verb in VERBS[role]:
                assert response.status_code not in (401, 403), told
            else:
                assert response.status_code == 403, told
                assert response.json()["code"] == "not_allowed", told


def test_a_model_out_of_scope_is_as_if_it_were_not_there(place: Place) -> None:
    """Whether there is such a model or not, who may not know of it hears the same."""
    key = place.key("deployer", models=("iris*",))
    with place.client(key) as client:
        assert [each["name"] for each in client.get("/models").json()["items"]] == ["iris"]
        assert client.get("/routes").json()["items"] == []
        for path in ("/models/{}", "/models/{}/versions", "/versions/{}:1", "/routes/{}"):
            there = client.get(path.format("churn"))
            elsewhere = client.get(path.format("nowhere"))
            assert there.status_code == elsewhere.status_code == 403
            assert there.json()["code"] == elsewhere.json()["code"] == "model_not_allowed"
        assert client.post("/routes/churn/deploy", json={}).status_code == 403
        assert client.get("/models/iris").status_code == 200
        assert client.get("/status").json()["code"] == "whole_scope_needed"


def test_an_archive_is_published_only_by_who_may_deploy_its_model(place: Place) -> None:
    """What it is called stands inside, and is looked at before it is a version."""
    with place.client() as client:
        archive = client.get("/versions/churn:1/archive").content
    with place.client(place.key("deployer", models=("iris",))) as client:
        response = client.post(
            "/versions", content=archive, headers={"content-type": "application/x-tar"}
        )
    assert (response.status_code, response.json()["code"]) == (403, "model_not_allowed")


def test_nobody_gives_more_than_they_have(place: Place) -> None:
    """A confined administrator makes, rotates and revokes no key that could do more."""
    chief = place.registry.keys.create(name="chief", role="admin", actor="test")
    place.registry.tenants.create("acme", actor="test")
    confined = place.key("admin", models=("churn*",))
    with place.client(confined) as client:
        for wanted in (
            {"role": "admin"},
            {"role": "caller"},
            {"role": "caller", "models": ["iris"]},
            {"role": "caller", "models": ["c*"]},
        ):
            response = client.post("/keys", json={"name": "more", **wanted})
            assert (response.status_code, response.json()["code"]) == (403, "model_not_allowed")
        fits = client.post("/keys", json={"name": "less", "models": ["churn*"]})
        assert fits.status_code == 201
        for verb in ("rotate", "revoke"):
            response = client.post(f"/keys/{chief.record.id}/{verb}", json={})
            assert response.status_code == 403
        assert (
            client.put("/policy", json={"policy": {}}, headers={"if-match": "*"}).status_code == 403
        )
        assert client.get("/audit").status_code == 403
    with place.client(place.key("admin", tenant="acme")) as client:
        assert client.post("/keys", json={"name": "own", "tenant": "acme"}).status_code == 201
        other = client.post("/keys", json={"name": "other"})
        assert (other.status_code, other.json()["code"]) == (403, "other_tenant")
        assert client.get(f"/keys/{chief.record.id}").status_code == 403
        assert {key["tenant"] for key in client.get("/keys").json()["items"]} == {"acme"}
        assert [each["name"] for each in client.get("/tenants").json()["items"]] == ["acme"]
        assert client.post("/tenants", json={"name": "mine"}).status_code == 403
        assert client.get("/usage?tenant=default").status_code == 403


@pytest.mark.parametrize(
    ("path", "content", "role"),
    [
        ("/keys", b'{"name": "late", "role": "admin"}', "admin"),
        ("/routes/churn/rollback", b"{}", "deployer"),
        ("/payloads/export", b"{}", "auditor"),
        ("/versions", b"no archive", "deployer"),
    ],
)
def test_a_key_that_is_revoked_while_its_request_comes_changes_nothing(
    place: Place, path: str, content: bytes, role: str
) -> None:
    """However long the body takes: it is asked about again when it is there."""
    made = place.registry.keys.create(name="slow", role=role, actor="test")
    kind = "application/x-tar" if path == "/versions" else "application/json"

    def slowly() -> Iterator[bytes]:
        yield content[:1]
        # The head was answered for when the first of the body is taken: it is let in.
        time.sleep(0.2)
        place.registry.keys.revoke(made.record.id, actor="test")
        yield content[1:]

    with place.client(made.text) as client:
        # The application is made at its first request, which takes longer than we wait.
        assert client.get("/whoami").status_code == 200
        response = client.post(path, content=slowly(), headers={"content-type": kind})
    assert (response.status_code, response.json()["code"]) == (401, "bad_key")
    assert "late" not in [key.name for key in place.registry.keys.list()]


@pytest.mark.parametrize("host", ["x:abc", "x:99999", "[::1", "x?", "x/api/v1", "a@b"])
def test_a_host_that_is_none_is_no_way_in_and_no_failure(
    place: Place, stranger: httpx.Client, host: str
) -> None:
    """Whatever the header says, what is asked for is what the path says."""
    keyed = {"authorization": f"Bearer {place.key()}"}
    for path, status in (("/nope", 404), ("/api/v1/nope", 404), ("/api/v1/models", 200)):
        assert stranger.get(path, headers={"host": host}).status_code in (401, 429)
        response = stranger.get(path, headers={"host": host, **keyed})
        assert response.status_code in (status, 400), response.text
        is_problem = path.startswith("/api") and response.status_code != 200
        assert ("problem" in response.headers["content-type"]) == is_problem
    assert stranger.get("/", headers={"host": host, **keyed}).status_code in (200, 400)


def test_a_confined_house_gives_no_keys_of_other_tenants(place: Place) -> None:
    """Its administrators could otherwise make one that sees what they do not."""
    place.registry.tenants.create("acme", actor="test")
    key = place.key("admin")
    place.registry.tenants.set("default", models=("churn*",), actor="test")
    with place.client(key) as client:
        assert client.post("/keys", json={"name": "own", "models": ["*"]}).status_code == 201
        response = client.post("/keys", json={"name": "more", "tenant": "acme"})
        assert (response.status_code, response.json()["code"]) == (403, "other_tenant")
        assert client.get("/tenants/acme").status_code == 403
