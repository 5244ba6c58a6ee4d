"""Makes signatures of bundles, with the `model-signing` library itself.

What is signed are the digests of a manifest: whoever signs has held the bytes against them before,
by `Bundle.verify` or `verify_archive`. So nothing is read or laid out here, which a bundle that is
encrypted at rest could not bear.
"""

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from modelyard.bundle.manifest import Manifest
from modelyard.bundle.signing import PublicKey, SignedStatement, digests_of
from modelyard.core.errors import Denied, Invalid, MissingExtra, Unavailable


@dataclass(frozen=True, slots=True, repr=False)
class KeyPair:
    """A new key for signing, both halves in PEM."""

    private: str
    public: PublicKey


def make_key(password: str = "") -> KeyPair:
    """A new key on P-256; its private half is encrypted where a password is given."""
    key = ec.generate_private_key(ec.SECP256R1())
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if password:
        encryption = serialization.BestAvailableEncryption(password.encode())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
    )
    return KeyPair(private.decode(), PublicKey.of(key.public_key()))


def sign_with_key(manifest: Manifest, key: Path, password: str = "") -> bytes:
    """A signature by a private key on P-256, P-384 or P-521, in a PEM file; raises `Invalid`."""
    config = _library("signing")
    try:
        config.use_elliptic_key_signer(
            private_key=key, password=password.encode() if password else None
        )
    except FileNotFoundError:
        raise _bad_private_key(f"there is no file {key}") from None
    except (ValueError, TypeError, AttributeError, OSError, UnsupportedAlgorithm):
        # Its own words may quote what it was given.
        raise _bad_private_key(
            f"{key.name} is no private key on P-256, P-384 or P-521 in PEM, or its password is "
            "another"
        ) from None
    return _sign(manifest, config)


def sign_with_sigstore(manifest: Manifest, token: str = "") -> bytes:
    """A signature by whom Sigstore's authority vouches for: opens a browser, or takes a `token`.

    Needs a network; raises `Unavailable` without one.
    """
    config = _library("signing")
    with _online():
        config.use_sigstore_signer(identity_token=token or None)
        return _sign(manifest, config)


def verify_with_sigstore(
    manifest: Manifest, signature: bytes, *, identity: str, issuer: str
) -> None:
    """Hold a signature of Sigstore's against the bundle and whoever must have made it.

    Needs a network; raises `Unavailable` without one, and `Denied`.
    """
    config = _library("verifying")
    with _online():
        config.use_sigstore_verifier(identity=identity, oidc_issuer=issuer)
    with tempfile.NamedTemporaryFile(prefix="modelyard-signature-") as file:
        file.write(signature)
        file.flush()
        try:
            config.set_hashing_config(_digests(manifest)).verify(_folder(manifest), file.name)
        except Exception as error:  # noqa: BLE001 - the library's errors have no common base
            raise Denied(
                "bad_signature",
                f"this is no signature of {identity} for this bundle: {error!s:.200}",
            ) from None


def _sign(manifest: Manifest, config: Any) -> bytes:
    with tempfile.NamedTemporaryFile(prefix="modelyard-signature-") as file:
        config.set_hashing_config(_digests(manifest)).sign(_folder(manifest), file.name)
        signature = file.read()
    SignedStatement.decode(signature).check_subject(manifest)
    return signature


def _folder(manifest: Manifest) -> Path:
    """What the library would hash, and names its statement after; nobody looks for it."""
    return Path(manifest.name)


def _digests(manifest: Manifest) -> Any:
    """A configuration of the library's that takes the manifest's digests and reads no file."""
    from model_signing._hashing.hashing import Digest
    from model_signing.manifest import Manifest as Listing
    from model_signing.manifest import SerializationType

    kind = SerializationType.from_args(
        {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
    )
    items = [
        kind.new_item(path, Digest("sha256", bytes.fromhex(digest)))
        for path, digest in digests_of(manifest).items()
    ]

    config = _library("hashing")
    config.hash = lambda folder, files_to_hash=None: Listing(folder.name, items, kind)
    return config


def _library(part: str) -> Any:
    """The configuration object of one part of the library."""
    try:
        return import_module(f"model_signing.{part}").Config()
    except ImportError:
        raise MissingExtra("signing", "signing a bundle") from None


@contextlib.contextmanager
def _online() -> Iterator[None]:
    """Turn what a machine without a network hears into an error of the house."""
    from sigstore.errors import Error

    try:
        yield
    except (Error, OSError) as error:
        raise Unavailable(
            "sigstore_unreachable",
            f"Sigstore cannot be asked ({type(error).__name__}: {error!s:.200}); it needs a "
            "network: sign with a key of your own instead ('bundle keygen')",
        ) from None


def _bad_private_key(message: str) -> Invalid:
    return Invalid("bad_private_key", message, field="key")
