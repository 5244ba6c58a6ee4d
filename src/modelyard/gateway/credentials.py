"""Keys as text: `my_<id>_<secret>`, how they are made, read, and told from a request's headers.

The id is 12 and the secret 52 characters of lower-case base32, the secret being 256 random bits: it
needs no slow digest, as nobody guesses it. A key has one spelling; any other is no key.
"""

import base64
import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import Final

from modelyard.core.errors import Unauthenticated
from modelyard.core.ports import Headers

PREFIX: Final = b"my_"
MOST_BYTES: Final = 8192
"""A longer key or token is none."""
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"
_ID_LENGTH: Final = 12
_SECRET_BYTES: Final = 32
_SALT_BYTES: Final = 16
# The last of 52 characters carries one bit of the 256: any other letter is a second spelling.
_KEY: Final = re.compile(rb"my_([a-z2-7]{12})_([a-z2-7]{51}[aq])")


@dataclass(frozen=True, slots=True)
class Credential:
    """A key that was given: its id, which is no secret, and its secret, which nothing shows."""

    id: str
    secret: bytes = field(repr=False)


def new_id() -> str:
    """An id that no other thing has: 60 random bits."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


def new_secret() -> bytes:
    """256 random bits."""
    return secrets.token_bytes(_SECRET_BYTES)


def new_salt() -> bytes:
    """What is digested with one secret and no other."""
    return secrets.token_bytes(_SALT_BYTES)


def write_key(credential: Credential) -> str:
    """A key as its owner keeps it. A secret: for one pair of eyes, once."""
    secret = base64.b32encode(credential.secret).rstrip(b"=").lower()
    return f"my_{credential.id}_{secret.decode()}"


def read_key(token: bytes) -> Credential:
    """The key that a text is; raises `Unauthenticated` for any other text."""
    found = _KEY.fullmatch(token)
    if found is None:
        raise bad_credential()
    return Credential(found[1].decode(), base64.b32decode(found[2].upper() + b"===="))


def digest(salt: bytes, secret: bytes) -> bytes:
    """What is stored of a secret."""
    return hashlib.sha256(salt + secret).digest()


def is_same(one: bytes, other: bytes) -> bool:
    """Whether two digests are equal, in a time that does not say how far they are."""
    return hmac.compare_digest(one, other)


def find_token(headers: Headers) -> bytes | None:
    """The key or token that a request carries; None where it carries none.

    Raises `Unauthenticated` for an authorization of another scheme, an empty or a very long one,
    and for two that differ: a bad credential is never as good as none.
    """
    authorization = headers.get(b"authorization")
    key = headers.get(b"x-api-key")
    if authorization is None:
        return None if key is None else _checked(key)
    bearer = _bearer(authorization)
    if key is not None and not hmac.compare_digest(bearer, key):
        raise bad_credential()
    return bearer


def _bearer(authorization: bytes) -> bytes:
    scheme, _, token = authorization.partition(b" ")
    if scheme.lower() != b"bearer":
        raise bad_credential()
    return _checked(token.lstrip(b" "))


def _checked(token: bytes) -> bytes:
    if not token or len(token) > MOST_BYTES:
        raise bad_credential()
    return token


def bad_credential() -> Unauthenticated:
    """What is said of every credential that is not good, whatever is wrong with it."""
    return Unauthenticated(
        "bad_key", "the key or token is not good, or no longer; ask an administrator for one"
    )


def no_credential() -> Unauthenticated:
    """What is said to whom nobody knows and who gave nothing to be known by."""
    return Unauthenticated(
        "no_key", "this needs a key: send 'Authorization: Bearer my_…' or 'X-API-Key: my_…'"
    )
