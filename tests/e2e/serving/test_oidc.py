"""A server that takes an issuer's tokens, over HTTP, from several workers."""

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from modelyard import Yard
from modelyard.core.names import Reference
from tests.e2e.conftest import Command, Server
from tests.unit.gateway.issuer import AUDIENCE, Issuer, served

SAMPLE = np.arange(20, dtype=float).reshape(10, 2)
BODY = {"instances": [[1.0, 2.0]]}


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with served(Issuer()) as made:
        made.add("first", "RS256")
        yield made


def test_tokens_call_models_within_their_mapping(
    issuer: Issuer, tmp_path: Path, start_server: Callable[..., Server]
) -> None:
    """Only models that the mapping names, only good tokens; and a new key needs no restart."""
    home = tmp_path / "home"
    with Yard.open(home) as yard:
        model = LinearRegression().fit(SAMPLE, SAMPLE.sum(axis=1))
        for name in ("sum", "other"):
            yard.publish(model, name=name, sample=SAMPLE)
            yard.deploy(Reference(name, version=1))
    run = Command(home)
    scope = ("--role", "caller", "--tenant", "default", "--models", "sum")
    run("identities", "add", issuer.url, "--claim", "groups=ml", *scope)
    server = start_server(
        home,
        *("--workers", 2),
        MODELYARD_OPEN="false",
        MODELYARD_OIDC_ISSUER=issuer.url,
        MODELYARD_OIDC_AUDIENCE=AUDIENCE,
    )

    def ask(token: bytes, model: str = "sum") -> int:
        """The status, once the issuer has been asked; each time over a new connection."""
        headers = {"Authorization": f"Bearer {token.decode()}"}
        url = f"{server.url}/v1/models/{model}:predict"
        while (status := httpx.post(url, json=BODY, headers=headers).status_code) == 503:
            pass
        return status

    good = issuer.token("first")
    # Of six connections some reach either worker.
    assert [ask(good) for _ in range(6)] == [200] * 6
    assert ask(good, "other") == 403
    assert ask(issuer.token("first", groups=["sales"])) == 401
    assert ask(issuer.token("first", exp=1)) == 401
    assert ask(good[:-8]) == 401
    issuer.add("second", "ES256")
    assert ask(issuer.token("second")) == 200


def test_half_a_configuration_does_not_start(tmp_path: Path) -> None:
    """An issuer without an audience would let in whoever has a token of its for anything."""
    done = Command(tmp_path / "home")(
        *("serve", "--port", 0, "--grpc-port", 0),
        status=1,
        MODELYARD_OIDC_ISSUER="https://issuer.example",
    )
    assert b"oidc_audience" in done.stderr
