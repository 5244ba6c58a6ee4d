import json

import httpx
import pytest

from modelyard.testing.serving import Serving, serving


def get(server: Serving, path: str) -> httpx.Response:
    return httpx.get(server.url + path)


def test_the_server_describes_itself(server: Serving) -> None:
    """`/v2` names the server, its version and its extensions."""
    body = get(server, "/v2").json()
    assert body["name"] == "modelyard"
    assert "binary_tensor_data" in body["extensions"]


def test_a_model_describes_its_tensors_and_columns(server: Serving) -> None:
    """Metadata has the tensors as the protocol wants them, and the columns beside."""
    body = get(server, "/v2/models/people").json()
    assert body["versions"] == ["1"]
    assert body["inputs"][0]["shape"] == [-1, 2]
    assert body["inputs"][1]["parameters"]["columns"][0]["categories"] == ["Rome", "Oslo"]
    assert body["parameters"] == {
        "task": "classification",
        "batched": True,
        "digest": "sha256:test",
    }
    assert get(server, "/v2/models/people/versions/1").json() == body


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/v2/models/people/ready", 200),
        ("/v2/models/people/versions/1/ready", 200),
        ("/v2/models/people/versions/2/ready", 404),
        ("/v2/models/nobody/ready", 404),
        ("/v2/models/nobody", 404),
        ("/v1/models/people", 200),
        ("/nothing", 404),
    ],
)
def test_health_and_readiness_tell_the_truth(server: Serving, path: str, status: int) -> None:
    """What answers is 200, what does not exist is 404 with our own error body."""
    response = get(server, path)
    assert response.status_code == status
    if status == 404:
        assert {"error", "kind", "code"} <= response.json().keys()


def test_the_index_lists_every_model(server: Serving) -> None:
    """GET and POST of the repository index name every version and its state."""
    listed = get(server, "/v2/repository/index").json()
    assert [line["name"] for line in listed] == ["broken", "busy", "people", "vector"]
    assert {line["state"] for line in listed} == {"READY"}
    posted = httpx.post(f"{server.url}/v2/repository/index", content=b"{}")
    assert (posted.status_code, posted.json()) == (200, listed)


def test_a_wrong_method_is_refused(server: Serving) -> None:
    """A method that a path does not take is a 405 with our own error body."""
    response = httpx.delete(f"{server.url}/v2")
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_health_is_only_asked(server: Serving, path: str, method: str) -> None:
    """A health path says which methods it takes; nobody should think that it is not there."""
    response = httpx.request(method, server.url + path)
    assert (response.status_code, response.json()["code"]) == (405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD"


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_without_a_body(server: Serving, path: str) -> None:
    """HEAD of a health path is GET's status alone."""
    response = httpx.head(server.url + path)
    assert (response.status_code, response.content) == (200, b"")


def test_head_tells_that_a_server_is_leaving() -> None:
    """HEAD is a 503 where GET is: balancers that ask so must see a server drain."""
    with serving({}) as server:
        server.on_loop(server.exchange.drain)
        for ask in (httpx.get, httpx.head):
            assert ask(f"{server.url}/v2/health/ready").status_code == 503
            assert ask(f"{server.url}/v2/health/live").status_code == 200


def test_the_document_has_a_typed_path_for_every_model(server: Serving) -> None:
    """OpenAPI describes each deployed model's own columns."""
    document = get(server, "/openapi.json").json()
    request = document["paths"]["/predict/people"]["post"]["requestBody"]
    row = request["content"]["application/json"]["schema"]["anyOf"][0]
    assert row["properties"]["city"] == {"type": "string", "enum": ["Rome", "Oslo"]}
    assert row["properties"]["income"]["type"] == ["number", "null"]
    assert json.dumps(document)


def test_the_first_page_lists_the_models(server: Serving) -> None:
    """A browser gets a page with every model, and nothing in it can run."""
    response = get(server, "/")
    assert response.headers["content-type"].startswith("text/html")
    assert "script" not in response.text
    assert all(f"<h2>{name}</h2>" in response.text for name in ("people", "vector"))
    assert "default-src 'none'" in response.headers["content-security-policy"]
