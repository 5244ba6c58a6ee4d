"""A small OpenID Connect issuer on this machine, whose keys turn and which can be away."""

import base64
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.hazmat.primitives import hashes, hmac
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey, RSAKey

AUDIENCE = "modelyard"


class _Registry(jws.JWSRegistry):
    def get_alg(self, name: str) -> Any:
        return self.algorithms[name]


class Issuer:
    """Keys by id, tokens made with them, and what it was asked."""

    def __init__(self) -> None:
        self.url = "https://issuer.example"
        self.keys: dict[str, tuple[str, Any]] = {}
        self.asked: list[str] = []
        self.has_asked = threading.Condition()
        self.is_away = False
        self.extra: list[object] = []
        self.discovered: dict[str, object] | None = None

    def add(self, key_id: str, algorithm: str = "ES256") -> Any:
        key = {
            "RS256": lambda: RSAKey.generate_key(2048),
            "ES256": lambda: ECKey.generate_key("P-256"),
            "EdDSA": lambda: OKPKey.generate_key("Ed25519"),
            "Ed25519": lambda: OKPKey.generate_key("Ed25519"),
        }[algorithm]()
        self.keys[key_id] = (algorithm, key)
        return key

    def document(self) -> bytes:
        """The JWK set."""
        members: list[object] = [
            {**key.as_dict(private=False), "kid": key_id, "use": "sig", "alg": algorithm}
            for key_id, (algorithm, key) in self.keys.items()
        ]
        return json.dumps({"keys": [*members, *self.extra]}).encode()

    def claims(self, **more: object) -> dict[str, object]:
        """Good ones; None takes one away."""
        now = int(time.time())
        claims: dict[str, object] = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ada",
            "iat": now,
            "nbf": now,
            "exp": now + 300,
            "groups": ["ml"],
        }
        claims.update(more)
        return {name: value for name, value in claims.items() if value is not None}

    def token(
        self,
        key_id: str,
        payload: bytes | None = None,
        *,
        header: dict[str, object] | None = None,
        **claims: object,
    ) -> bytes:
        """A token by one of its keys."""
        algorithm, key = self.keys[key_id]
        body = json.dumps(self.claims(**claims)).encode() if payload is None else payload
        whole = {"alg": algorithm, "kid": key_id, "typ": "JWT", **(header or {})}
        whole = {name: value for name, value in whole.items() if value is not None}
        return sign(whole, body, key, algorithm)

    def wait_for(self, count: int) -> None:
        """Until it was asked so often for its keys; the test's time limit bounds it."""
        with self.has_asked:
            self.has_asked.wait_for(lambda: len(self.asked) >= count)


def encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def sign(header: dict[str, object], payload: bytes, key: Any, algorithm: str) -> bytes:
    """A signature by that algorithm over any header."""
    signed = encode(json.dumps(header).encode()) + b"." + encode(payload)
    return signed + b"." + encode(_Registry().get_alg(algorithm).sign(signed, key))


def sign_symmetric(header: dict[str, object], payload: bytes, secret: bytes) -> bytes:
    """HMAC, as who confuses a public key with a secret would check it."""
    signed = encode(json.dumps(header).encode()) + b"." + encode(payload)
    maker = hmac.HMAC(secret, hashes.SHA256())
    maker.update(signed)
    return signed + b"." + encode(maker.finalize())


@contextmanager
def served(issuer: Issuer) -> Iterator[Issuer]:
    """The issuer on a free port of this machine."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with issuer.has_asked:
                issuer.asked.append(self.path)
                issuer.has_asked.notify_all()
            if issuer.is_away:
                self.send_error(503)
                return
            if self.path == "/moved":
                self.send_response(302)
                self.send_header("Location", f"{issuer.url}/keys")
                self.end_headers()
                return
            answer = issuer.document()
            if self.path == "/.well-known/openid-configuration":
                told = {"issuer": issuer.url, "jwks_uri": f"{issuer.url}/keys"}
                answer = json.dumps(issuer.discovered or told).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()
