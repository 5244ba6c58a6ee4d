"""A home's own key, with which its node signs what it says: checkpoints and snapshots."""

import hashlib
import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelyard.core.errors import Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

_FILE: Final = "node.key"


def node_key(home: Path) -> "Ed25519PrivateKey":
    """The key of a home, in its file `node.key` (PKCS#8, for its owner only), made when it is not
    there; safe in many processes at once. Raises `Unavailable` for a file that holds none."""
    file = home / _FILE
    try:
        data = file.read_bytes()
    except FileNotFoundError:
        data = _make(file)
    return _parse(data, file)


def node_name(public_key: "Ed25519PublicKey") -> str:
    """The name of a node: the fingerprint of its key, so that none can take another's."""
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()[:32]


def _make(file: Path) -> bytes:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    data = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    draft = file.with_name(f".{_FILE}.{secrets.token_hex(8)}")
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        # A link never replaces: of two processes at once, both go on with the first one's key.
        os.link(draft, file)
    except FileExistsError:
        return file.read_bytes()
    except OSError as error:
        raise Unavailable(
            "no_node_key", f"the node's key {file} cannot be made: {error.strerror}", field="home"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    return data


def _parse(data: bytes, file: Path) -> "Ed25519PrivateKey":
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise Unavailable(
            "bad_node_key",
            f"{file} holds no Ed25519 key; put the right one back, or remove it to begin anew "
            "as another node",
            field="home",
        )
    return key
