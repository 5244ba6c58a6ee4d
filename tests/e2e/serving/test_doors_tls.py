"""TLS at the doors of a whole server and its workers: keys, certificates, renewal, new workers."""

import os
import signal
import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from sklearn.linear_model import LinearRegression

from modelyard import Client, Yard
from modelyard.core.errors import Unauthenticated, Unavailable
from modelyard.core.names import Reference
from tests.certificates import Authority

MODEL = "price"
TABLE = np.arange(20, dtype=float).reshape(10, 2)


def publish(home: Path) -> str:
    """Deploy a model; returns a key that may call it."""
    with Yard.open(home) as yard:
        estimator = LinearRegression().fit(TABLE, TABLE.sum(axis=1))
        version = yard.publish(estimator, name=MODEL, sample=TABLE)
        yard.deploy(Reference(MODEL, version=version.number))
        return yard.registry.keys.create(name="caller", models=[MODEL], actor="test").text


def test_a_server_with_workers_speaks_tls(
    tmp_path: Path, start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both protocols, with keys, by whichever worker; and while the workers are replaced no call
    is lost."""
    home, authority = tmp_path / "home", Authority(tmp_path)
    pair = authority.server()
    key = publish(home)
    server = start_server(
        home,
        MODELYARD_OPEN="false",
        MODELYARD_WORKERS="2",
        MODELYARD_TLS_CERTIFICATE=str(pair.certificate),
        MODELYARD_TLS_KEY=str(pair.key),
    )
    url = f"https://127.0.0.1:{server.port}"
    with Client(url, key=key) as client, pytest.raises(Unavailable, match="SSL_CERT_FILE"):
        client.predict(MODEL, TABLE)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with Client(url) as client, pytest.raises(Unauthenticated):
        client.predict(MODEL, TABLE)
    with Client(url, key=key) as client:
        before = [client.predict(MODEL, TABLE).tolist() for _ in range(20)]
    assert before == before[:1] * 20
    credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
    with grpc.secure_channel(f"127.0.0.1:{server.grpc_port}", credentials) as channel:
        ready = channel.unary_unary("/inference.GRPCInferenceService/ModelReady")
        assert ready(b"\n\x05price", metadata=[("x-api-key", key)], timeout=20) == b"\x08\x01"

    answered, failed = 0, []
    changed = threading.Event()

    def call() -> None:
        nonlocal answered
        with Client(url, key=key) as client:
            while not changed.is_set():
                try:
                    assert client.predict(MODEL, TABLE).tolist() == before[0]
                    answered += 1
                except Exception as error:  # noqa: BLE001 - whatever it is, the test tells it
                    failed.append(error)

    callers = [threading.Thread(target=call) for _ in range(3)]
    for caller in callers:
        caller.start()
    old = _workers(server.pid)
    os.kill(server.pid, signal.SIGHUP)
    while _workers(server.pid) & old or len(_workers(server.pid)) != 2:
        pass
    changed.set()
    for caller in callers:
        caller.join(30)
    assert failed == []
    assert answered


def _workers(pid: int) -> set[str]:
    """The processes that a server has for answering calls."""
    found = set()
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        try:
            command = Path(f"/proc/{child}/cmdline").read_bytes()
        except OSError:
            continue
        if b"modelyard.wiring.worker" in command:
            found.add(child)
    return found


def test_certificates_are_renewed_under_a_server(
    tmp_path: Path, start_server: Callable[..., Any]
) -> None:
    """A new pair in the same files is what new connections are shown, without a restart."""
    home, authority = tmp_path / "home", Authority(tmp_path)
    pair = authority.server()
    server = start_server(
        home,
        MODELYARD_TLS_CERTIFICATE=str(pair.certificate),
        MODELYARD_TLS_KEY=str(pair.key),
    )
    address = ("127.0.0.1", server.port)
    before = ssl.get_server_certificate(address)
    assert ssl.get_server_certificate(("127.0.0.1", server.grpc_port)) == before
    new = authority.server("renewed")
    new.key.replace(pair.key)
    new.certificate.replace(pair.certificate)
    wanted = pair.certificate.read_text()
    while ssl.get_server_certificate(address) != wanted:
        pass
    while ssl.get_server_certificate(("127.0.0.1", server.grpc_port)) != wanted:
        pass


def test_a_certificate_is_an_identity(
    tmp_path: Path, start_server: Callable[..., Any], modelyard: Any
) -> None:
    """Where a certificate is demanded, whoever has none is not spoken to; one that is mapped needs
    no key, and one that is not needs one."""
    home, authority = tmp_path / "home", Authority(tmp_path)
    pair, scorer, stranger = (
        authority.server(),
        authority.client("scorer"),
        authority.client("stranger"),
    )
    publish(home)
    with Yard.open(home) as yard:
        yard.registry.mappings.add(
            source="certificate",
            claims=[("subject", "CN=scorer,O=acme")],
            tenant="default",
            role="caller",
            actor="test",
        )
    server = start_server(
        home,
        MODELYARD_OPEN="false",
        MODELYARD_TLS_CERTIFICATE=str(pair.certificate),
        MODELYARD_TLS_KEY=str(pair.key),
        MODELYARD_TLS_CLIENT_CA=str(authority.certificate),
        MODELYARD_TLS_CLIENT="required",
    )
    url = f"https://127.0.0.1:{server.port}/v2"
    with pytest.raises(httpx.TransportError):
        httpx.get(url, verify=ssl.create_default_context(cafile=authority.certificate))
    statuses = []
    for shown in (scorer, stranger):
        context = ssl.create_default_context(cafile=authority.certificate)
        context.load_cert_chain(shown.certificate, shown.key)
        statuses.append(httpx.get(url, verify=context).status_code)
    assert statuses == [200, 401]


def test_half_a_configuration_is_refused(modelyard: Any, tmp_path: Path) -> None:
    """A key without a certificate, and files that are not there, are told before anything runs."""
    told = modelyard("serve", status=1, MODELYARD_TLS_KEY="x.key").stderr
    assert b"'tls_certificate' is not" in told
    missing = str(tmp_path / "missing.pem")
    told = modelyard(
        "serve", "--port", 0, "--grpc-port", 0, status=1, MODELYARD_TLS_CERTIFICATE=missing
    ).stderr
    assert b"missing.pem: No such file" in told
