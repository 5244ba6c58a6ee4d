"""`Idempotency-Key`: a request that is sent again is answered again, and done once.

draft-ietf-httpapi-idempotency-key-header. What is stored names neither who asked nor the key, and
answers with secrets in them are sealed with what only the caller has.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from modelyard.core.administration.operation import Operation
from modelyard.core.administration.port import Reception
from modelyard.core.errors import Conflict, Invalid
from modelyard.core.identity import Principal

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LONGEST_KEY: Final = 255
_NONCE: Final = 12


@dataclass(frozen=True, slots=True)
class Repeatable:
    """A request that its caller has given a key. `credential` is what it was made with."""

    principal: Principal
    key: str
    credential: bytes

    def __post_init__(self) -> None:
        if not (self.key.isascii() and self.key.isprintable() and len(self.key) <= LONGEST_KEY):
            raise Invalid(
                "bad_idempotency_key",
                f"an Idempotency-Key is plain text of at most {LONGEST_KEY} characters, "
                "such as a UUID",
                field="Idempotency-Key",
            )

    def answer(
        self, reception: Reception, operation: Operation, asked: bytes, perform: Callable[[], bytes]
    ) -> tuple[bytes, bool]:
        """What was answered, now or the first time, and which of the two."""
        mark = _digest(self.principal.tenant, self.principal.key, self.key)
        request = _digest(operation.name, asked.hex())
        if not operation.is_secret:
            return reception.once(mark, request, perform)
        if not self.credential:
            # A certificate's owner has shown nothing that a secret could be sealed with.
            raise Invalid(
                "unrepeatable",
                "this answers with a secret, which cannot be kept for a repeat by who is known by "
                "a certificate; send it without an Idempotency-Key",
                field="Idempotency-Key",
            )
        sealed, again = reception.once(mark, request, lambda: self._seal(perform()))
        return self._open(sealed), again

    def _seal(self, answer: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return nonce + self._cipher().encrypt(nonce, answer, None)

    def _open(self, sealed: bytes) -> bytes:
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher().decrypt(sealed[:_NONCE], sealed[_NONCE:], None)
        except InvalidTag:
            raise Conflict(
                "answered_before",
                "this was done before, and its answer had a secret in it that only the credential "
                "of then opens; look at what was made, and make another if the secret is lost",
                field="Idempotency-Key",
            ) from None

    def _cipher(self) -> "AESGCM":
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM
        from cryptography.hazmat.primitives.hashes import SHA256
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF

        derivation = HKDF(SHA256(), 32, salt=None, info=b"modelyard idempotency")
        return AESGCM(derivation.derive(self.credential + b"\0" + self.key.encode()))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
