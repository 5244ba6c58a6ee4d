"""Who may do what over HTTP: asked with every request, and before its body is read."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import httpx
import pytest

from modelyard.core.errors import Exhausted
from modelyard.core.identity import Actor, Role, Scope, Verb
from modelyard.core.limits import Headroom
from modelyard.core.ports import Arrays, ServedStatistics
from modelyard.testing.serving import FunctionRuntime, Serving, serving
from tests.unit.api.http.conftest import VECTOR, Wire
from tests.unit.api.keys import WRONG, Ring

BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]}'
PATH = "/v2/models/ours/infer"


@dataclass
class Node:
    """Operations that remember who asked for what."""

    actors: list[Actor] = field(default_factory=list)

    async def statistics(
        self, model: str | None = None, version: str | None = None
    ) -> list[ServedStatistics]:
        return [ServedStatistics(model=name, version=1) for name in ("ours", "theirs")]

    async def load(self, model: str, actor: Actor) -> None:
        self.actors.append(actor)

    async def unload(self, model: str, actor: Actor) -> None:
        self.actors.append(actor)


@pytest.fixture(scope="module")
def node() -> Node:
    return Node()


@pytest.fixture(scope="module")
def ring() -> Ring:
    made = Ring()
    made.add("caller", scope=Scope(models=("ours", "absent", "gone-*")))
    made.add("deployer", role=Role.DEPLOYER)
    made.add("auditor", role=Role.AUDITOR)
    made.add("rival", tenant="rival", sees=("theirs",))
    made.add("old", expires_at=1.0)
    return made


def double(inputs: Arrays) -> Arrays:
    return {"y": inputs["x"] * 2}


def tire(inputs: Arrays) -> Arrays:
    error = Exhausted("rate_reached", "too fast", retry_after_s=1.2)
    error.headroom = Headroom(limit=60, remaining=-1, unit="request", resets_s=3.4)
    raise error


@pytest.fixture(scope="module")
def server(ring: Ring, node: Node) -> Iterator[Serving]:
    runtimes = {
        "ours": FunctionRuntime(VECTOR, double),
        "theirs": FunctionRuntime(VECTOR, double),
        "gone-tired": FunctionRuntime(VECTOR, tire),
    }
    with serving(
        runtimes, access=ring.access, operations=node, max_body_bytes=1024 * 1024
    ) as running:
        yield running


@pytest.fixture
def wire(server: Serving) -> Iterator[Wire]:
    made = Wire(server.url)
    yield made
    made.close()


def post(path: str = PATH, key: str = "", length: int = len(BODY), more: str = "") -> bytes:
    who = f"authorization: Bearer {key}\r\n" if key else ""
    return (
        f"POST {path} HTTP/1.1\r\nhost: h\r\n{who}content-length: {length}\r\n{more}\r\n".encode()
    )


def test_a_good_key_calls(server: Serving, ring: Ring) -> None:
    """By either header, and its tenant's name goes with the call."""
    for headers in (ring.bearer("caller"), {"x-api-key": ring.texts["caller"]}):
        answer = httpx.post(server.url + PATH, content=BODY, headers=headers)
        assert answer.json()["outputs"][0]["data"] == [2, 4, 6]


@pytest.mark.parametrize("key", ["", WRONG, "my_x", "my_\xe9"], ids=["none", "wrong", "bad", "odd"])
def test_nobody_is_answered_before_the_body(wire: Wire, key: str) -> None:
    """A caller without a good key hears so when its head is there; a large body is not read."""
    wire.send(post(key=key, length=60_000_000))
    status, headers, body = wire.response()
    assert (status, headers["connection"]) == (401, "close")
    assert headers["www-authenticate"].startswith("bearer")
    assert key not in body.decode() or not key


def test_nobody_is_told_to_go_on(wire: Wire) -> None:
    """Who waits to be invited is refused instead."""
    wire.send(post(more="expect: 100-continue\r\n"))
    status, headers, _ = wire.response()
    assert (status, headers["connection"]) == (401, "close")


def test_a_chunked_body_is_not_waited_for(wire: Wire) -> None:
    """Nobody knows how long it will be."""
    wire.send(
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    status, headers, _ = wire.response()
    assert (status, headers["connection"]) == (401, "close")


def test_a_refused_caller_may_try_again_on_its_connection(wire: Wire, ring: Ring) -> None:
    """What comes of a small body is thrown away, and the next request is read as one."""
    wire.send(post())
    assert wire.response()[0] == 401
    wire.send(BODY)
    wire.send(post(key=ring.texts["caller"]) + BODY)
    assert wire.response()[0] == 200
    wire.send(post() + BODY + post(key=ring.texts["caller"]) + BODY)
    assert [wire.response()[0] for _ in range(2)] == [401, 200]


def test_refusals_keep_their_place_among_pipelined_answers(wire: Wire, ring: Ring) -> None:
    """Answers leave in the order of their requests, refused or not."""
    good, bad = post(key=ring.texts["caller"]) + BODY, post(key=WRONG) + BODY
    wire.send(good + bad + good + bad + good)
    assert [wire.response()[0] for _ in range(5)] == [200, 401, 200, 401, 200]


def test_who_may_not_hears_nothing_of_models(server: Serving, ring: Ring) -> None:
    """A model out of scope and one that is not there are refused alike; within scope it is 404."""
    refusals = [
        httpx.post(
            f"{server.url}/v2/models/{model}/infer", content=BODY, headers=ring.bearer("rival")
        )
        for model in ("ours", "nowhere")
    ]
    assert [each.status_code for each in refusals] == [403, 403]
    said = [each.text.replace("ours", "?").replace("nowhere", "?") for each in refusals]
    assert said[0] == said[1]
    absent = httpx.post(
        f"{server.url}/v2/models/absent/infer", content=BODY, headers=ring.bearer("caller")
    )
    assert absent.status_code == 404


def test_a_denied_body_is_not_read(wire: Wire, ring: Ring) -> None:
    """Nor is one that is sent to a model that its caller may not call."""
    wire.send(post("/v2/models/theirs/infer", ring.texts["caller"], 60_000_000))
    status, headers, _ = wire.response()
    assert (status, headers["connection"]) == (403, "close")


def test_revocation_reaches_heads_that_are_known(server: Serving, ring: Ring) -> None:
    """A connection whose requests are all alike is asked about with each of them."""
    key = ring.add("leaving")
    wire = Wire(server.url)
    for _ in range(4):
        wire.send(post(key=key) + BODY)
        assert wire.response()[0] == 200
    server.on_loop(lambda: ring.revoke("leaving"))
    for _ in range(2):
        wire.send(post(key=key) + BODY)
        assert wire.response()[0] == 401
    wire.close()


def test_revocation_reaches_a_request_whose_body_is_still_coming(
    server: Serving, ring: Ring
) -> None:
    """Who was let in when the head came is asked about again when the body has come."""
    key = ring.add("slow")
    wire = Wire(server.url)
    wire.send(post(key=key) + BODY[:10])
    wire2 = Wire(server.url)
    wire2.send(post(key=key) + BODY)
    assert wire2.response()[0] == 200
    server.on_loop(lambda: ring.revoke("slow"))
    wire.send(BODY[10:])
    assert wire.response()[0] == 401
    wire.close()
    wire2.close()


def test_an_expired_key_is_no_key(server: Serving, ring: Ring) -> None:
    """It is told no more than a wrong one is."""
    expired = httpx.post(server.url + PATH, content=BODY, headers=ring.bearer("old"))
    wrong = httpx.post(
        server.url + PATH, content=BODY, headers={"authorization": f"Bearer {WRONG}"}
    )
    assert (expired.status_code, expired.content) == (401, wrong.content)


def test_lists_show_what_their_reader_may_know_of(server: Serving, ring: Ring) -> None:
    """The index, v1's list, statistics, the document and the page hold no other model's name."""
    for path in (
        "/v2/repository/index",
        "/v1/models",
        "/v2/models/stats",
        "/openapi.json",
        "/",
    ):
        seen = httpx.get(server.url + path, headers=ring.bearer("caller"))
        assert seen.status_code == 200
        assert "ours" in seen.text
        assert "theirs" not in seen.text
        assert "ours" not in httpx.get(server.url + path, headers=ring.bearer("rival")).text


def test_a_path_without_a_model_means_the_only_one_its_caller_sees(
    server: Serving, ring: Ring
) -> None:
    """Whatever else is deployed; and where there are several, only those are named."""
    rows = b'{"instances":[{"x":[1,2,3]}]}'
    one = httpx.post(f"{server.url}/invocations", content=rows, headers=ring.bearer("rival"))
    assert one.status_code == 200
    several = httpx.post(f"{server.url}/invocations", content=rows, headers=ring.bearer("caller"))
    assert several.json()["code"] == "which_model"
    assert "theirs" not in several.text


def test_roles_are_asked_for_what_they_may(server: Serving, ring: Ring, node: Node) -> None:
    """Callers call, auditors do not, and only deployers change what is served."""
    load = f"{server.url}/v2/repository/models/ours/load"
    assert httpx.post(load, headers=ring.bearer("caller")).status_code == 403
    assert (
        httpx.post(server.url + PATH, content=BODY, headers=ring.bearer("auditor")).status_code
        == 403
    )
    assert not node.actors
    headers = {**ring.bearer("deployer"), "x-request-id": "r-1", "x-forwarded-for": "8.8.8.8"}
    assert httpx.post(load, headers=headers).status_code == 200
    (actor,) = node.actors
    assert (actor.name, actor.tenant) == ("deployer", "acme")
    assert (actor.source, actor.request_id) == ("127.0.0.1", "r-1")


def test_a_scope_takes_verbs_away(server: Serving, ring: Ring) -> None:
    """A deployer's key that may only read calls nothing."""
    ring.add("reader", role=Role.DEPLOYER, scope=Scope(verbs=frozenset({Verb.READ})))
    refused = httpx.post(server.url + PATH, content=BODY, headers=ring.bearer("reader"))
    assert refused.status_code == 403


def test_health_is_public(server: Serving) -> None:
    """Whoever watches the server needs no key, with GET and with HEAD."""
    for path in ("/v2/health/live", "/v2/health/ready", "/ping"):
        for method in ("GET", "HEAD"):
            assert httpx.request(method, server.url + path).status_code == 200


def test_a_route_that_is_not_there_asks_for_a_key_too(server: Serving, ring: Ring) -> None:
    """Without one nobody hears even which paths and methods there are."""
    for method, path in (("GET", "/nothing"), ("DELETE", "/v2"), ("OPTIONS", "/v2")):
        assert httpx.request(method, server.url + path).status_code == 401
    good = ring.bearer("caller")
    assert httpx.get(f"{server.url}/nothing", headers=good).status_code == 404
    assert httpx.delete(f"{server.url}/v2", headers=good).status_code == 405


def test_a_limit_that_is_reached_says_how_it_stands(server: Serving, ring: Ring) -> None:
    """When to come again, how much there is, how much is left, and when it is whole again."""
    tired = httpx.post(
        f"{server.url}/v2/models/gone-tired/infer", content=BODY, headers=ring.bearer("caller")
    )
    assert tired.status_code == 429
    assert tired.headers["retry-after"] == "2"
    assert tired.headers["x-ratelimit-limit-requests"] == "60"
    assert tired.headers["x-ratelimit-remaining-requests"] == "0"
    assert tired.headers["x-ratelimit-reset-requests"] == "4"


def test_callers_are_told_apart_among_many_connections(server: Serving, ring: Ring) -> None:
    """Known heads of one caller never let another in."""
    answers: dict[str, set[int]] = {}

    def call(name: str, key: str) -> None:
        wire = Wire(server.url)
        found = set()
        for _ in range(50):
            wire.send(post(key=key) + BODY)
            found.add(wire.response()[0])
        answers[name] = found
        wire.close()

    keys = {**ring.texts, "wrong": WRONG}
    names = {"caller": 200, "deployer": 200, "auditor": 403, "rival": 403, "wrong": 401}
    threads = [threading.Thread(target=call, args=(name, keys[name])) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert answers == {name: {status} for name, status in names.items()}


def test_a_request_has_an_id(server: Serving, ring: Ring, node: Node) -> None:
    """The caller's own where it is short and clean, else one that is made; so has the audit."""
    load = f"{server.url}/v2/repository/models/ours/load"
    for given, is_taken in (("r-7", True), ("x" * 129, False), ("two words", False), (None, False)):
        headers = {**ring.bearer("deployer"), **({"x-request-id": given} if given else {})}
        told = httpx.post(load, headers=headers).headers["x-request-id"]
        assert (told == given) is is_taken
        assert node.actors[-1].request_id == told


def test_answers_are_for_nobody_elses_cache(server: Serving, ring: Ring) -> None:
    """Good or refused, nothing of the application is stored, or read as another type."""
    for path, headers in (("/v2", ring.bearer("caller")), ("/v2", {}), ("/nothing", {}), ("/", {})):
        answer = httpx.get(server.url + path, headers=headers)
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_the_page_runs_nothing_and_lies_in_no_frame(server: Serving, ring: Ring) -> None:
    """Not even what a model's name would smuggle in."""
    headers = httpx.get(server.url, headers=ring.bearer("caller")).headers
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "script-src" not in policy
    assert headers["referrer-policy"] == "no-referrer"


def test_a_web_page_changes_nothing_on_an_open_server(node: Node) -> None:
    """Every page in a browser of the machine can reach it, and says where it comes from."""
    before = len(node.actors)
    with serving({"ours": FunctionRuntime(VECTOR, double)}, operations=node) as server:
        load = f"{server.url}/v2/repository/models/ours/load"
        refused = httpx.post(load, headers={"origin": "https://evil.test"})
        assert (refused.status_code, refused.json()["code"]) == (403, "from_a_page")
        assert len(node.actors) == before
        assert httpx.post(load).status_code == 200
        assert node.actors[-1].name == "anybody"
