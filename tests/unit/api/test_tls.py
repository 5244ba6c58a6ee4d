"""TLS with real clients, on both event loops: what it takes, what it refuses, how it is renewed."""

import asyncio
import contextlib
import hashlib
import logging
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import httpx
import pytest
import uvloop

from modelyard.api.adoption import Adoption
from modelyard.api.tls import HANDSHAKE_S, Tls, TlsFiles
from modelyard.core.errors import Invalid
from modelyard.core.identity import Peer
from modelyard.core.ports import Caller, Headers
from modelyard.gateway.open_access import OpenAccess
from modelyard.testing.serving import FunctionRuntime, Serving, serving
from tests.certificates import Authority, Pair
from tests.unit.api.http.conftest import VECTOR

LOOPS = {"asyncio": asyncio.SelectorEventLoop, "uvloop": uvloop.new_event_loop}
BODY = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": [1, 2, 3]}]}


class Noticing(OpenAccess):
    """Open, and remembers who called."""

    def __init__(self) -> None:
        super().__init__()
        self.peers: list[Peer] = []

    def identify(self, headers: Headers, peer: Peer) -> Caller:
        self.peers.append(peer)
        return super().identify(headers, peer)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def pair(authority: Authority) -> Pair:
    return authority.server()


@pytest.fixture(params=LOOPS)
def make_loop(request: pytest.FixtureRequest) -> Callable[[], asyncio.AbstractEventLoop]:
    made: Callable[[], asyncio.AbstractEventLoop] = LOOPS[request.param]
    return made


@pytest.fixture
def access() -> Noticing:
    return Noticing()


@pytest.fixture
def server(
    pair: Pair, make_loop: Callable[[], asyncio.AbstractEventLoop], access: Noticing
) -> Iterator[Serving]:
    runtimes = {"vector": FunctionRuntime(VECTOR, lambda inputs: {"y": inputs["x"] * 2})}
    files = TlsFiles(certificate=pair.certificate, key=pair.key)
    with serving(runtimes, tls=files, make_loop=make_loop, access=access) as running:
        yield running


def trusting(authority: Authority, client: Pair | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.certificate)
    if client is not None:
        context.load_cert_chain(client.certificate, client.key)
    return context


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def shown_certificate(url: str) -> str:
    """The fingerprint of what a server shows, whoever vouches for it."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port_of(url)), timeout=10) as plain,
        context.wrap_socket(plain) as wrapped,
    ):
        return hashlib.sha256(wrapped.getpeercert(binary_form=True) or b"").hexdigest()


def fingerprint(pair: Pair) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pair.certificate.read_text())).hexdigest()


def test_https_answers_calls_and_pages(server: Serving, authority: Authority) -> None:
    """The hot path and the application alike, and callers are told to stay with TLS."""
    with httpx.Client(verify=trusting(authority), base_url=server.url) as client:
        for _ in range(3):
            answer = client.post("/v2/models/vector/infer", json=BODY)
            assert answer.json()["outputs"][0]["data"] == [2, 4, 6]
            assert "max-age" in answer.headers["strict-transport-security"]
        page = client.get("/")
        assert page.status_code == 200
        assert "https://127.0.0.1" in page.text


def test_grpc_answers_calls(server: Serving, authority: Authority) -> None:
    """A channel that trusts the authority is served, and sees HTTP/2 agreed on."""
    credentials = grpc.ssl_channel_credentials(authority.certificate.read_bytes())
    with grpc.secure_channel(server.grpc_address, credentials) as channel:
        live = channel.unary_unary("/inference.GRPCInferenceService/ServerLive")
        assert live(b"", timeout=10) == b"\x08\x01"


def test_curl_answers(server: Serving, authority: Authority) -> None:
    """What people type works."""
    command = ["curl", "-sS", "--cacert", str(authority.certificate), f"{server.url}/v2"]
    done = subprocess.run(command, capture_output=True, timeout=20, check=True)
    assert b'"modelyard"' in done.stdout


@pytest.mark.parametrize(
    "options",
    [
        ["-tls1"],
        ["-tls1_1"],
        ["-tls1_2", "-cipher", "AES128-GCM-SHA256"],
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "NULL:aNULL:@SECLEVEL=0"],
    ],
)
def test_old_protocols_and_ciphers_are_refused(server: Serving, options: list[str]) -> None:
    """Nothing before TLS 1.2, and in it only authenticated encryption with fresh keys."""
    said = _handshake(server.url, options)
    assert "Cipher is (NONE)" in said or "no ciphers available" in said


@pytest.mark.parametrize(
    ("options", "agreed"),
    [
        ([], "TLSv1.3"),
        (["-tls1_2"], "TLSv1.2"),
        (["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], "CHACHA20"),
    ],
)
def test_modern_protocols_are_spoken(server: Serving, options: list[str], agreed: str) -> None:
    """1.3 where the caller can, else 1.2."""
    said = _handshake(server.url, [*options, "-alpn", "h2,http/1.1"])
    assert agreed in said
    assert "ALPN protocol: http/1.1" in said


def _handshake(url: str, options: list[str]) -> str:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port_of(url)}", *options]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=20)
    return (done.stdout + done.stderr).decode()


def test_who_speaks_in_the_clear_is_not_answered(server: Serving) -> None:
    """A plain request to the TLS port ends without an answer, and the server goes on."""
    with socket.create_connection(("127.0.0.1", port_of(server.url)), timeout=10) as plain:
        plain.sendall(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP" not in plain.recv(4096)
    assert shown_certificate(server.url)


def test_certificates_are_renewed_while_serving(
    server: Serving, authority: Authority, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    """New files hold for new connections within seconds; one that is open goes on; a broken pair is
    not taken, and said so."""
    before = fingerprint(pair)
    assert shown_certificate(server.url) == before
    with httpx.Client(verify=trusting(authority), base_url=server.url) as kept:
        assert kept.get("/v2/health/live").status_code == 200
        pair.certificate.write_text("no certificate")
        _wait_until(lambda: "old ones go on" in caplog.text, lambda: shown_certificate(server.url))
        assert shown_certificate(server.url) == before
        new = authority.server("new")
        new.key.replace(pair.key)
        shutil.copy(new.certificate, pair.certificate)
        _wait_until(lambda: shown_certificate(server.url) == fingerprint(new))
        assert kept.get("/v2/health/live").status_code == 200


def _wait_until(is_so: Callable[[], bool], nudge: Callable[[], object] = lambda: None) -> None:
    until = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < until
        nudge()
        time.sleep(0.05)


def test_a_client_certificate_says_who_calls(
    authority: Authority, pair: Pair, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """Where it is optional, whoever shows one is known by it, in both protocols; others are
    served without."""
    scorer, access = authority.client("scorer"), Noticing()
    files = TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=authority.certificate)
    with serving({}, tls=files, make_loop=make_loop, access=access) as server:
        assert httpx.get(f"{server.url}/v2", verify=trusting(authority)).status_code == 200
        assert access.peers[-1] == Peer(address="127.0.0.1")
        httpx.get(f"{server.url}/v2", verify=trusting(authority, scorer))
        _check_scorer(access.peers[-1], scorer)
        credentials = grpc.ssl_channel_credentials(
            authority.certificate.read_bytes(),
            scorer.key.read_bytes(),
            scorer.certificate.read_bytes(),
        )
        with grpc.secure_channel(server.grpc_address, credentials) as channel:
            channel.unary_unary("/inference.GRPCInferenceService/ServerMetadata")(b"", timeout=10)
        _check_scorer(access.peers[-1], scorer)


def _check_scorer(peer: Peer, scorer: Pair) -> None:
    certificate = peer.certificate
    assert certificate is not None
    assert certificate.subject == "CN=scorer,O=acme"
    assert certificate.sha256 == fingerprint(scorer)
    assert certificate.names == ("scorer.acme.test",)


def test_a_demanded_certificate_must_be_good(
    authority: Authority,
    pair: Pair,
    tmp_path: Path,
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """None, one of another authority, and a server's own are refused with the handshake."""
    others = tmp_path / "others"
    others.mkdir()
    stranger = Authority(others, "authority").client("scorer")
    files = TlsFiles(
        certificate=pair.certificate,
        key=pair.key,
        client_ca=authority.certificate,
        demands_client=True,
    )
    with serving({}, tls=files, make_loop=make_loop) as server:
        for shown in (None, stranger, pair):
            with pytest.raises(httpx.TransportError):
                httpx.get(f"{server.url}/v2", verify=trusting(authority, shown))
        good = trusting(authority, authority.client("scorer"))
        assert httpx.get(f"{server.url}/v2", verify=good).status_code == 200


def test_no_session_brings_back_a_client_certificate(
    authority: Authority, pair: Pair, make_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    """A certificate is looked at with every connection: TLS 1.3, and nothing is resumed."""
    files = TlsFiles(certificate=pair.certificate, key=pair.key, client_ca=authority.certificate)
    with serving({}, tls=files, make_loop=make_loop) as server:
        said = _handshake(server.url, ["-reconnect"])
        assert "New, TLSv1.3" in said
        assert "Reused" not in said
        assert "Cipher is (NONE)" in _handshake(server.url, ["-tls1_2"])


def test_a_caller_that_never_shakes_hands_holds_nobody_up(server: Serving) -> None:
    """Others are served meanwhile, and stopping does not wait for it."""
    with socket.create_connection(("127.0.0.1", port_of(server.url)), timeout=10):
        assert shown_certificate(server.url)
    assert HANDSHAKE_S <= 10


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda pair: pair.certificate.unlink(), "No such file"),
        (lambda pair: pair.key.unlink(), "No such file"),
        (lambda pair: pair.certificate.write_text("none"), "no usable PEM|no certificate"),
        (lambda pair: pair.key.write_text("none"), "no usable PEM"),
    ],
)
def test_files_that_are_no_pair_are_refused(
    pair: Pair, spoil: Callable[[Pair], object], told: str
) -> None:
    """A server does not start with them, and says which file it is."""
    spoil(pair)
    with pytest.raises(Invalid, match=told):
        Tls(TlsFiles(certificate=pair.certificate, key=pair.key), "h2")


def test_another_certificates_key_is_refused(authority: Authority, pair: Pair) -> None:
    """It is said that the two do not belong together."""
    other = authority.server("other")
    with pytest.raises(Invalid, match="not the certificate's"):
        Tls(TlsFiles(certificate=pair.certificate, key=other.key), "h2")


def test_an_encrypted_key_is_refused(pair: Pair, tmp_path: Path) -> None:
    """Nobody is asked for a password on a terminal that may not be there."""
    encrypted = tmp_path / "encrypted.key"
    command = ["openssl", "pkcs8", "-topk8", "-passout", "pass:planted", "-in", str(pair.key)]
    encrypted.write_bytes(subprocess.run(command, capture_output=True, check=True).stdout)
    with pytest.raises(Invalid, match="encrypted with a password"):
        Tls(TlsFiles(certificate=pair.certificate, key=encrypted), "h2")


def test_a_key_that_others_can_read_is_told(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    """It is used all the same: a warning, with what to do."""
    files = TlsFiles(certificate=pair.certificate, key=pair.key)
    with caplog.at_level(logging.WARNING):
        Tls(files, "h2")
        assert "chmod" not in caplog.text
        pair.key.chmod(0o644)
        Tls(files, "h2")
    assert "chmod o-rwx" in caplog.text


@pytest.mark.parametrize(
    ("say", "made"),
    [
        (lambda plain, context: context.wrap_socket(plain).close(), 1),
        (lambda plain, context: plain.sendall(b"GET / HTTP/1.1\r\n\r\n"), 0),
        (lambda plain, context: None, 0),
    ],
    ids=["well", "in the clear", "not at all"],
)
def test_every_adopted_connection_ends_once(
    pair: Pair,
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    say: Callable[[socket.socket, ssl.SSLContext], object],
    made: int,
) -> None:
    """Whether hands were shaken or not: whoever deals connections out counts on it."""
    loop = make_loop()
    ended: list[str] = []

    class Counting(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            ended.append("closed")

    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE

    def call(address: tuple[str, int]) -> None:
        with (
            socket.create_connection(address, timeout=10) as plain,
            contextlib.suppress(OSError),
        ):
            say(plain, context)

    async def scene() -> None:
        tls = Tls(TlsFiles(certificate=pair.certificate, key=pair.key), "http/1.1")
        adoption = Adoption(Counting, lambda: ended.append("lost"), tls)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            calling = asyncio.create_task(asyncio.to_thread(call, listener.getsockname()))
            listener.setblocking(False)
            connection, _ = await loop.sock_accept(listener)
            adoption.take(connection)
            await calling
            await adoption.settled()
            while not ended:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)

    try:
        loop.run_until_complete(scene())
    finally:
        loop.close()
    assert ended == (["closed"] if made else ["lost"])
