"""Checks signatures of bundles: the OpenSSF model-signing format, with elliptic-curve keys.

A signature is a Sigstore bundle around a statement of in-toto: the sha256 of each file of a folder,
by its path. A bundle's manifest has just these digests, so a signature over the unpacked bundle can
be held against the manifest alone, and whoever has only the `model-signing` tool can hold it
against the folder. It lies beside the bundle, never in it: the bundle's own digest stays.

`bundle.signer` makes them with that library. They are checked here, at every load: without its
imports, and without the older forms that it still takes.

https://github.com/ossf/model-signing-spec
"""

import base64
import binascii
import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modelyard.bundle.digest import PREFIX, sha256_bytes
from modelyard.bundle.manifest import MANIFEST_PATH, Manifest
from modelyard.core.errors import Denied, Invalid

MEDIA_TYPE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
MOST_BYTES: Final = 4 * 1024 * 1024
"""A signature names every file of its bundle; one of this size names some thirty thousand."""

_PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"
_STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
_PREDICATE_TYPE: Final = "https://model_signing/signature/v1.0"
_HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "secp256r1": hashes.SHA256(),
    "secp384r1": hashes.SHA384(),
    "secp521r1": hashes.SHA512(),
}


@dataclass(frozen=True, slots=True)
class PublicKey:
    """A key that signatures are checked with. `fingerprint` is the sha256 of `pem`, as signatures
    name their key."""

    pem: str
    fingerprint: str

    @staticmethod
    def parse(pem: str) -> "PublicKey":
        """Read a PEM file's text; raises `Invalid`."""
        try:
            key = serialization.load_pem_public_key(pem.encode())
        except (ValueError, UnsupportedAlgorithm):
            raise _bad_key("this is no public key in PEM") from None
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _HASHES:
            raise _bad_key("this is a public key, but not one on the curve P-256, P-384 or P-521")
        return PublicKey.of(key)

    @staticmethod
    def of(key: ec.EllipticCurvePublicKey) -> "PublicKey":
        """The key in its one spelling."""
        plain = key.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        return PublicKey(plain.decode(), sha256_bytes(plain))

    @property
    def short(self) -> str:
        """The fingerprint as people are shown it."""
        return f"{self.fingerprint[:16]}…"

    def fits(self, signature: bytes, signed: bytes) -> bool:
        """Whether this key made a signature."""
        key = serialization.load_pem_public_key(self.pem.encode())
        assert isinstance(key, ec.EllipticCurvePublicKey)  # noqa: S101 - `parse` saw to it
        try:
            key.verify(signature, signed, ec.ECDSA(_HASHES[key.curve.name]))
        except InvalidSignature:
            return False
        return True


class _PublicKeyHint(msgspec.Struct, frozen=True):
    hint: str = ""


class _Material(msgspec.Struct, frozen=True, rename="camel"):
    public_key: _PublicKeyHint | None = None


class _OneSignature(msgspec.Struct, frozen=True):
    sig: str


class _Envelope(msgspec.Struct, frozen=True, rename="camel"):
    payload: str
    payload_type: str
    signatures: list[_OneSignature]


class _Document(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    verification_material: _Material
    dsse_envelope: _Envelope


class _Subject(msgspec.Struct, frozen=True):
    digest: dict[str, str]


class _Serialization(msgspec.Struct, frozen=True):
    method: str
    hash_type: str


class _Resource(msgspec.Struct, frozen=True):
    name: str
    algorithm: str
    digest: str


class _Predicate(msgspec.Struct, frozen=True):
    serialization: _Serialization
    resources: list[_Resource]


class _Statement(msgspec.Struct, frozen=True, rename="camel"):
    kind: str = msgspec.field(name="_type")
    predicate_type: str
    subject: list[_Subject]
    predicate: _Predicate


_DOCUMENT: Final = msgspec.json.Decoder(_Document)
_STATEMENT: Final = msgspec.json.Decoder(_Statement)


@dataclass(frozen=True, slots=True)
class SignedStatement:
    """A signature that was read and not yet checked. `signer` is the fingerprint that it names, ""
    where it was made with a certificate, as Sigstore's are."""

    signer: str
    payload: bytes
    signature: bytes

    @staticmethod
    def decode(data: bytes) -> "SignedStatement":
        """Read a signature's file; raises `Invalid`."""
        if len(data) > MOST_BYTES:
            raise _bad_signature(f"it is larger than {MOST_BYTES} bytes")
        try:
            document = _DOCUMENT.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _bad_signature(str(error)) from None
        envelope = document.dsse_envelope
        if document.media_type != MEDIA_TYPE or envelope.payload_type != _PAYLOAD_TYPE:
            raise _bad_signature("it is of another kind")
        if len(envelope.signatures) != 1:
            raise _bad_signature("it holds not one signature, but several or none")
        key = document.verification_material.public_key
        try:
            payload = base64.b64decode(envelope.payload, validate=True)
            signature = base64.b64decode(envelope.signatures[0].sig, validate=True)
        except (binascii.Error, ValueError):
            raise _bad_signature("its base64 is broken") from None
        return SignedStatement(key.hint if key is not None else "", payload, signature)

    def check(self, manifest: Manifest, key: PublicKey) -> None:
        """Hold it against a bundle and a key; raises `Denied` saying which of the two it is not."""
        signed = b"DSSEv1 %d %b %d %b" % (
            len(_PAYLOAD_TYPE),
            _PAYLOAD_TYPE.encode(),
            len(self.payload),
            self.payload,
        )
        if self.signer != key.fingerprint or not key.fits(self.signature, signed):
            raise Denied(
                "bad_signature",
                f"the signature was not made with the key {key.short}",
            )
        self.check_subject(manifest)

    def check_subject(self, manifest: Manifest) -> None:
        """Whether its statement is about this bundle, whoever made it; raises `Denied`."""
        if _digests(self.payload) != digests_of(manifest):
            raise Denied(
                "bad_signature",
                f"the signature is about other files than those of {manifest.digest}",
            )


def signers(
    manifest: Manifest, signatures: Sequence[bytes], keys: Sequence[PublicKey]
) -> list[PublicKey]:
    """Those of the keys that have signed the bundle."""
    found: list[PublicKey] = []
    for data in signatures:
        with contextlib.suppress(Invalid, Denied):
            signature = SignedStatement.decode(data)
            for key in keys:
                if key.fingerprint == signature.signer and key not in found:
                    signature.check(manifest, key)
                    found.append(key)
    return found


def _digests(payload: bytes) -> dict[str, str]:
    """What a statement says: sha256 by path; empty for any statement that we do not know."""
    try:
        statement = _STATEMENT.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    predicate = statement.predicate
    found = {each.name: each.digest for each in predicate.resources if each.algorithm == "sha256"}
    if (
        statement.kind != _STATEMENT_TYPE
        or statement.predicate_type != _PREDICATE_TYPE
        or (predicate.serialization.method, predicate.serialization.hash_type)
        != ("files", "sha256")
        or len(found) != len(predicate.resources)
        or [each.digest.get("sha256") for each in statement.subject] != [_root(found.values())]
    ):
        return {}
    return found


def digests_of(manifest: Manifest) -> dict[str, str]:
    """What a statement about the unpacked bundle says: sha256 by path."""
    return {
        MANIFEST_PATH: manifest.digest.removeprefix(PREFIX),
        **{entry.path: entry.sha256 for entry in manifest.files},
    }


def _root(digests: Iterable[str]) -> str:
    """The digest over all digests, in their order; "" where one is none."""
    try:
        return sha256_bytes(b"".join(map(bytes.fromhex, digests)))
    except ValueError:
        return ""


def _bad_key(message: str) -> Invalid:
    return Invalid("bad_public_key", f"{message}; 'bundle keygen' makes a pair", field="key")


def _bad_signature(reason: str) -> Invalid:
    return Invalid(
        "bad_signature_file", f"this is no signature of a model: {reason:.200}", field="signature"
    )
