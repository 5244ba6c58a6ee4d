"""Default deny, walked: every route, every door and every RPC of a real server, without a good key.

What is walked is read from the tables that dispatch goes by, so that what is new is walked by
itself. What a path means to access must be what it means to dispatch, however it is written.
"""

import itertools
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
from litestar.routes import HTTPRoute
from sklearn.linear_model import LinearRegression

from modelyard import Yard
from modelyard.api.asks import PUBLIC
from modelyard.api.grpc.methods import make_methods
from modelyard.api.http.application import make_application
from modelyard.api.http.contracts import Contracts
from modelyard.core.administration.port import Reception
from modelyard.core.names import Reference
from modelyard.core.ports import Exchange
from modelyard.gateway.open_access import OpenAccess
from tests.e2e.conftest import Server, serving

MODEL = "acme-price"
WRONG = "my_aaaaaaaaaaaa_" + "b" * 51 + "a"
HEALTH_ROUTE = "/healthy"
PUBLIC_PATHS = {"/v2/health/live", "/v2/health/ready", "/ping", HEALTH_ROUTE}
DOORS = (
    f"/v2/models/{MODEL}/infer",
    f"/v2/models/{MODEL}/versions/1/infer",
    f"/predict/{MODEL}",
    f"/v1/models/{MODEL}:predict",
    f"/v1/models/{MODEL}/versions/1:predict",
    "/invocations",
    "/score",
    "/vertex",
)
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE")
REFUSED = {401, 429}
"""Who fails too often hears 429 instead."""


@dataclass(frozen=True)
class Place:
    """A keyed server, and headers of callers by what is wrong with them."""

    server: Server
    admin: dict[str, str]
    caller: dict[str, str]
    rival: dict[str, str]
    bad: Mapping[str, dict[str, str]]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home: Path = tmp_path_factory.mktemp("doors") / "home"
    table = np.arange(20, dtype=float).reshape(10, 2)
    with Yard.open(home) as yard:
        version = yard.publish(
            LinearRegression().fit(table, table.sum(axis=1)), name=MODEL, sample=table
        )
        yard.deploy(Reference(MODEL, version=version.number))
        keys, tenants = yard.registry.keys, yard.registry.tenants
        tenants.create("rival", models=["rival-*"], actor="test")
        made = {
            name: keys.create(name=name, actor="test", **more)  # type: ignore[arg-type]
            for name, more in {
                "admin": {"role": "admin"},
                "caller": {"models": ["acme-*"]},
                "rival": {"tenant": "rival", "role": "deployer"},
                "expired": {"lifetime_s": 0.001},
                "revoked": {"role": "admin"},
            }.items()
        }
        keys.revoke(made["revoked"].record.id, actor="test")

    def bearer(text: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {text}"}

    good = made["admin"].text
    bad = {
        "none": {},
        "wrong": bearer(WRONG),
        "expired": bearer(made["expired"].text),
        "revoked": bearer(made["revoked"].text),
        "cut short": bearer(good[:-1]),
        "another case": bearer(good.upper()),
        "with more": bearer(good + "a"),
        "basic": {"Authorization": f"Basic {good}"},
        "bare": {"Authorization": good},
        "empty": {"Authorization": "Bearer", "X-API-Key": ""},
        "id alone": bearer(good.rpartition("_")[0]),
        "two that differ": {**bearer(good), "X-API-Key": WRONG},
        "in the wrong header": {"Cookie": f"key={good}", "X-Key": good},
    }
    with serving(
        home,
        MODELYARD_OPEN="false",
        MODELYARD_HEALTH_ROUTE=HEALTH_ROUTE,
        MODELYARD_PREDICT_ROUTE="/vertex",
    ) as server:
        yield Place(
            server,
            bearer(good),
            bearer(made["caller"].text),
            bearer(made["rival"].text),
            bad,
        )


def ask(
    server: Server,
    method: str,
    target: str,
    headers: Mapping[str, str],
    *,
    version: str = "1.1",
    host: str = "h",
    body: bytes | None = None,
) -> tuple[int, bytes]:
    """One request as it is written here, byte for byte: its answer's status and body."""
    if body is None:
        body = b"" if method in ("GET", "HEAD") else b"{}"
    lines = [f"{method} {target} HTTP/{version}", f"Host: {host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    lines += ["", ""]
    with socket.create_connection((server.host, server.port), timeout=20) as connection:
        connection.sendall("\r\n".join(lines).encode("latin-1") + body)
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    head, _, content = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]) if head else 0, content


def routes() -> list[tuple[str, str]]:
    """Every method and path that the application knows, with its parameters filled in."""
    application = make_application(
        cast(Exchange, None),
        OpenAccess(),
        "0",
        contracts=Contracts(health_route=HEALTH_ROUTE, predict_route="/vertex"),
        administration=cast(Reception, object()),
    )
    found = []
    for route in application.routes:
        assert isinstance(route, HTTPRoute)
        path = route.path_format
        for parameter in route.path_parameters.values():
            filler = MODEL if parameter.name == "model" else "1"
            path = path.replace(f"{{{parameter.name}}}", filler)
        found += [(method, path) for method in route.methods]
    return sorted(found)


ROUTES = routes()
WALK = [*ROUTES, *itertools.product(METHODS, DOORS)]


def is_public(method: str, path: str) -> bool:
    return path in PUBLIC_PATHS and method in ("GET", "HEAD")


def test_there_is_much_to_walk() -> None:
    """The tables are those that dispatch goes by: the administration is among them."""
    paths = {path for _, path in ROUTES}
    assert len(ROUTES) > 80
    assert {"/", "/v2", "/openapi.json", "/api/v1/openapi.json"} <= paths
    assert all("{" not in path for path in paths)


def test_every_door_is_walked(place: Place) -> None:
    """Each path of the document is a route or a door of this walk."""
    document = json.loads(ask(place.server, "GET", "/openapi.json", place.caller)[1])
    assert set(document["paths"]) <= {path for _, path in WALK}


@pytest.mark.parametrize(("method", "path"), WALK)
def test_nothing_is_answered_without_a_key(place: Place, method: str, path: str) -> None:
    """Every route and every door, by every method, with nothing and with a wrong key."""
    for why in ("none", "wrong"):
        status, _ = ask(place.server, method, path, place.bad[why])
        if is_public(method, path):
            assert status == 200
        else:
            assert status in REFUSED | ({405} if path in PUBLIC_PATHS else set())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2"),
        ("GET", f"/v2/models/{MODEL}"),
        ("GET", "/openapi.json"),
        ("GET", "/"),
        ("POST", f"/v2/models/{MODEL}/infer"),
        ("POST", "/invocations"),
        ("POST", f"/v2/repository/models/{MODEL}/unload"),
        ("GET", "/api/v1/keys"),
        ("POST", "/api/v1/keys"),
        ("GET", "/nowhere"),
    ],
)
def test_no_bad_credential_is_good(place: Place, method: str, path: str) -> None:
    """Whatever is wrong with it, it opens nothing, and a good one beside it does not help."""
    for why, headers in place.bad.items():
        status, _ = ask(place.server, method, path, headers)
        assert status in REFUSED, why


@pytest.mark.parametrize(("method", "path"), [each for each in WALK if MODEL in each[1]])
def test_a_key_of_another_tenant_sees_no_model(place: Place, method: str, path: str) -> None:
    """It hears of this model what it hears of one that is not there."""
    status, said = ask(place.server, method, path, place.rival)
    absent = path.replace(MODEL, "acme-nicer")
    status_there, said_there = ask(place.server, method, absent, place.rival)
    assert status >= 400
    assert status == status_there
    assert _without_id(said.replace(MODEL.encode(), b"?")) == _without_id(
        said_there.replace(b"acme-nicer", b"?")
    )


def _without_id(said: bytes) -> object:
    try:
        content = json.loads(said)
    except ValueError:
        return said
    content.pop("request_id", None)
    return content


def test_lists_do_not_show_models_of_others(place: Place) -> None:
    """Nothing that a key of another tenant may read holds the model's name."""
    for method, path in ROUTES:
        if method == "GET" and MODEL not in path:
            _, said = ask(place.server, method, path, place.rival)
            assert MODEL.encode() not in said, path


BASES = (
    f"/v2/models/{MODEL}",
    f"/v2/models/{MODEL}/infer",
    f"/v2/repository/models/{MODEL}/unload",
    "/api/v1/keys",
    "/openapi.json",
)


def written(base: str) -> Iterator[str]:
    """A path in the spellings by which others have been let in."""
    parts = base.strip("/").split("/")
    yield "/" + base
    yield base.replace("/", "//")
    yield base + "/"
    yield base + "/."
    yield base + "."
    yield base + "%20"
    yield base + "%00"
    yield base + "%00/ping"
    yield base + ";/ping"
    yield base + ";x=/ping"
    yield base + "?x=/ping"
    yield base + "#/ping"
    yield base + "/../../../ping"
    yield base + "%2f..%2f..%2fping"
    yield base.upper()
    yield "/" + "/./".join(parts)
    yield "/x/../" + "/".join(parts)
    yield "/ping/.." + base
    yield "/ping/%2e%2e" + base
    yield "/ping/%2E%2E%2f" + "/".join(parts)
    yield "/ping/..;" + base
    yield "/ping;" + base
    yield "/ping" + base
    yield "/ping%2f.." + base
    yield "/ping%00" + base
    yield "/ping?" + base
    yield "/ping#" + base
    yield "/v2/health/live/.." + base
    yield "/v2/health/live%0a" + base
    yield "/v2/health/live\\.." + base
    yield HEALTH_ROUTE + "/.." + base
    yield "/" + "%2f".join(parts)
    yield "/" + "%252f".join(parts)
    yield "/" + "%c0%af".join(parts)
    yield "/%2e/" + "/".join(parts)
    yield "/" + "".join(f"%{ord(each):02x}" for each in base[1:])
    yield "http://h" + base
    yield "http://h/ping/.." + base
    yield "http://127.0.0.1/ping@h" + base
    yield "http://user:pass@h" + base
    yield "https://ping" + base
    yield "//ping" + base


@pytest.mark.parametrize("base", BASES)
def test_no_spelling_of_a_path_opens_it(place: Place, base: str) -> None:
    """Only what is the public path itself, and answers as that, is answered without a key; and a
    key of another tenant gets nowhere by another spelling either."""
    for spelling in written(base):
        for method, headers in itertools.product(("GET", "POST"), ({}, place.rival)):
            status, said = ask(place.server, method, spelling, headers)
            if 200 <= status < 300:
                assert MODEL.encode() not in said, spelling
                if not headers:
                    assert said in (b'{"live":true}', b'{"ready":true}'), spelling


@pytest.mark.parametrize(
    "headers",
    [
        {"X-HTTP-Method-Override": "GET"},
        {"X-Method-Override": "HEAD"},
        {"X-Original-URL": "/ping"},
        {"X-Rewrite-URL": "/ping"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"X-Forwarded-Host": "127.0.0.1", "X-Forwarded-Proto": "https"},
        {"X-Forwarded-Prefix": "/ping", "X-Script-Name": "/ping"},
        {"Forwarded": "for=127.0.0.1;host=localhost"},
        {"X-Client-Cert": "CN=admin", "X-SSL-Client-Verify": "SUCCESS"},
        {"X-Remote-User": "admin", "Remote-User": "admin"},
        {"Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAAP__"},
        {"Upgrade": "websocket", "Sec-WebSocket-Key": "x"},
    ],
    ids=lambda headers: next(iter(headers)),
)
def test_no_other_header_opens_anything(place: Place, headers: dict[str, str]) -> None:
    """What proxies and frameworks elsewhere go by is nothing here."""
    for method, path in (("GET", "/v2"), ("POST", DOORS[0]), ("GET", "/api/v1/keys")):
        assert ask(place.server, method, path, headers)[0] in REFUSED


@pytest.mark.parametrize(
    "host", ["", "ping", "127.0.0.1/ping", "h?/ping", "h#", "h/ping", "[::1]", "a b", "..", "h:0"]
)
def test_no_host_opens_anything(place: Place, host: str) -> None:
    """Nobody rebuilds the path from what the caller says the server is called."""
    for method, path in (("GET", "/v2"), ("POST", DOORS[0]), ("GET", "/api/v1/keys")):
        assert ask(place.server, method, path, {}, host=host)[0] in {400, *REFUSED}


@pytest.mark.parametrize("version", ["1.0", "0.9", "1.2", "2.0"])
def test_no_version_of_http_opens_anything(place: Place, version: str) -> None:
    """An old one is as one of today, and an odd one is refused."""
    for method, path in (("GET", "/v2"), ("POST", DOORS[0]), ("GET", "/api/v1/keys")):
        status, _ = ask(place.server, method, path, {}, version=version)
        assert status in {0, 400, 505, *REFUSED}


def test_good_keys_open_what_they_may(place: Place) -> None:
    """The walk would prove nothing of a server that answers nobody."""
    server = place.server
    rows = b'{"inputs":[{"name":"input","datatype":"FP32","shape":[1,2],"data":[1,2]}]}'
    assert ask(server, "GET", f"/v2/models/{MODEL}", place.caller)[0] == 200
    status, said = ask(server, "POST", DOORS[0], place.caller, body=rows)
    assert (status, b"outputs" in said) == (200, True), said
    assert ask(server, "GET", "/api/v1/keys", place.caller)[0] == 403
    assert ask(server, "GET", "/api/v1/keys", place.admin)[0] == 200


GRPC_METHODS = make_methods(cast(Exchange, None), None)


@pytest.fixture(scope="module")
def channel(place: Place) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(place.server.grpc_address) as made:
        yield made


@pytest.mark.parametrize("path", sorted(GRPC_METHODS))
def test_no_rpc_answers_without_a_key(channel: grpc.Channel, place: Place, path: bytes) -> None:
    """Every method of the table, in both protocols' sense of default deny."""
    for why, headers in place.bad.items():
        metadata = [(name.lower(), value) for name, value in headers.items()]
        call = channel.stream_stream(path.decode())(iter([b""]), metadata=metadata, timeout=20)
        answers: list[bytes] = []
        status = _outcome(call, answers, endless=path.endswith(b"/Watch"))
        if GRPC_METHODS[path].asks is PUBLIC:
            assert status is grpc.StatusCode.OK
        else:
            refused = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.RESOURCE_EXHAUSTED)
            assert status in refused, why
            assert answers == []


def _outcome(call: Any, answers: list[bytes], *, endless: bool) -> grpc.StatusCode:
    try:
        for answer in call:
            answers.append(answer)
            if endless:
                call.cancel()
                return grpc.StatusCode.OK
    except grpc.RpcError as error:
        code: Callable[[], grpc.StatusCode] = error.code  # type: ignore[attr-defined]
        return code()
    return grpc.StatusCode.OK


def test_the_public_rpcs_are_few() -> None:
    """How the server itself is, and nothing else."""
    public = {path for path, method in GRPC_METHODS.items() if method.asks is PUBLIC}
    assert public == {
        b"/inference.GRPCInferenceService/ServerLive",
        b"/inference.GRPCInferenceService/ServerReady",
        b"/grpc.health.v1.Health/Check",
        b"/grpc.health.v1.Health/Watch",
    }
