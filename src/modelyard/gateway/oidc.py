"""Callers with a token of an OpenID Connect issuer: who they are is said by identity mappings.

A token is believed when its signature is by a key of the issuer's and an algorithm of that key's,
and when its claims are for us and for now. What it says before that decides nothing but which key
to look for, among keys that are here already.
"""

import base64
import hashlib
import re
import time
from typing import Any, Final, Protocol

import msgspec

from modelyard.core.errors import MissingExtra
from modelyard.core.identity import Principal
from modelyard.core.rules import Rules
from modelyard.gateway.jwks import ALGORITHMS, VerifyingKey
from modelyard.gateway.mappings import principal_of

MOST_BYTES: Final = 8192
_LEEWAY_S: Final = 30.0
_FARTHEST_S: Final = 4_102_444_800.0 * 10
_TOKEN: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_SUBJECT: Final = re.compile(r"[A-Za-z0-9._@|:/+-]{1,100}")


class Keys(Protocol):
    """Where the issuer's keys are."""

    def find(self, key_id: str, algorithm: str) -> VerifyingKey | None:
        """A key, None where there is none of that id; raises `Unavailable` where nobody knows."""
        ...


class _Header(msgspec.Struct, frozen=True):
    alg: str
    kid: str = ""
    typ: str = "JWT"
    cty: str = ""
    crit: list[str] | None = None
    b64: bool = True


class _Claims(msgspec.Struct, frozen=True):
    iss: str
    sub: str
    aud: str | list[str]
    exp: float
    nbf: float = 0.0
    iat: float = 0.0


_HEADER: Final = msgspec.json.Decoder(_Header)
_CLAIMS: Final = msgspec.json.Decoder(_Claims)
_ANY: Final = msgspec.json.Decoder(dict[str, Any])


class OidcAuthority:
    """Vouches for the tokens of one issuer that are for one audience."""

    def __init__(self, issuer: str, audience: str, keys: Keys) -> None:
        self._issuer = issuer
        self._audience = audience
        self._keys = keys
        self._registry = _make_registry()

    def principal_of(self, token: bytes, rules: Rules) -> Principal | None:
        """Whose token it is; None for one that is not good, or not the issuer's, or whom no mapping
        knows. Costs 0.1 to 0.3 ms."""
        if len(token) > MOST_BYTES or _TOKEN.fullmatch(token) is None:
            return None
        try:
            head, body, _ = (_decoded(part) for part in token.split(b"."))
            header, claims = _HEADER.decode(head), _CLAIMS.decode(body)
        except (ValueError, RecursionError):
            return None
        # Before any key is looked for: another issuer's token makes nobody ask this one.
        if not self._may_be_good(header) or not self._is_for_us(claims):
            return None
        key = self._keys.find(header.kid, header.alg)
        if key is None or header.alg not in key.algorithms:
            return None
        payload = self._verified(token, key, header.alg)
        return None if payload is None else self._mapped(payload, rules)

    def _may_be_good(self, header: _Header) -> bool:
        return (
            header.alg in ALGORITHMS
            and header.crit is None
            and header.b64
            # Neither a token in a token, nor one for another purpose of the issuer's.
            and not header.cty
            and header.typ.lower() in ("jwt", "at+jwt", "application/at+jwt")
            and len(header.kid) <= 256
        )

    def _is_for_us(self, claims: _Claims) -> bool:
        now = time.time()
        audiences = [claims.aud] if isinstance(claims.aud, str) else claims.aud
        return (
            claims.iss == self._issuer
            and self._audience in audiences
            and bool(claims.sub)
            and now - _LEEWAY_S < claims.exp < _FARTHEST_S
            and claims.nbf <= now + _LEEWAY_S
            and claims.iat <= now + _LEEWAY_S
        )

    def _verified(self, token: bytes, key: VerifyingKey, algorithm: str) -> bytes | None:
        """The payload, if its signature is good."""
        from joserfc.errors import JoseError
        from joserfc.jws import deserialize_compact

        try:
            found = deserialize_compact(
                token, key.key, algorithms=[algorithm], registry=self._registry
            )
        except (JoseError, ValueError, TypeError):
            return None
        return bytes(found.payload)

    def _mapped(self, payload: bytes, rules: Rules) -> Principal | None:
        try:
            # Once more, out of what was signed: nothing rests on what was read before that.
            claims, everything = _CLAIMS.decode(payload), _ANY.decode(payload)
        except (ValueError, RecursionError):
            return None
        if not self._is_for_us(claims):
            return None
        return principal_of(
            rules,
            self._issuer,
            everything,
            key=f"oidc:{_short(claims.sub)}",
            name=_name(everything, claims.sub),
            expires_at=claims.exp + _LEEWAY_S,
        )


def _make_registry() -> Any:
    try:
        from joserfc.errors import UnsupportedAlgorithmError
        from joserfc.jws import JWSRegistry
    except ImportError:
        raise MissingExtra("oidc", "verifying an issuer's tokens") from None

    class Registry(JWSRegistry):
        """Ours to choose algorithms from; the library's warns of `EdDSA`, which issuers say."""

        max_header_length = 2048

        def get_alg(self, name: str) -> Any:
            if name not in ALGORITHMS:
                raise UnsupportedAlgorithmError(name)
            return self.algorithms[name]

    return Registry()


def _decoded(part: bytes) -> bytes:
    """The bytes of a part in its one spelling: the last character may have bits to spare."""
    data = base64.urlsafe_b64decode(part + b"=" * (-len(part) % 4))
    if base64.urlsafe_b64encode(data).rstrip(b"=") != part:
        raise ValueError
    return data


def _short(subject: str) -> str:
    """The subject where it is a plain one, else what stands for it."""
    if _SUBJECT.fullmatch(subject):
        return subject
    return hashlib.sha256(subject.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _name(claims: dict[str, Any], subject: str) -> str:
    for name in ("email", "preferred_username", "name"):
        value = claims.get(name)
        if isinstance(value, str) and 0 < len(value) <= 128 and value.isprintable():
            return value
    return _short(subject)
