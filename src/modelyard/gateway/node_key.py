"""The key by which a node signs what it must recognise as its own: one for a home, for good."""

import contextlib
import hashlib
import logging
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from modelyard.core.errors import Unavailable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

_log = logging.getLogger(__name__)

FILE_NAME: Final = "node.key"


def node_key(home: Path) -> "Ed25519PrivateKey":
    """The home's key, made if it is not there yet; safe in many processes at once.

    Raises `Unavailable` where the file cannot be read or is no such key.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    file = home / FILE_NAME
    try:
        if not file.exists():
            _make(file)
        _check_mode(file)
        key = load_pem_private_key(file.read_bytes(), password=None)
    except OSError as error:
        raise Unavailable(
            "bad_node_key", f"the node's key {file} cannot be used: {error.strerror}"
        ) from None
    except ValueError:
        raise _no_key(file) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(file)
    return key


def node_name(public_key: "Ed25519PublicKey") -> str:
    """The name of a node: the fingerprint of its key, so that none can take another's."""
    return hashlib.sha256(public_key.public_bytes_raw()).hexdigest()[:32]


def _make(file: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    draft = file.with_name(f".draft-{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as writing:
            writing.write(pem)
            writing.flush()
            os.fsync(writing.fileno())
        # A link never replaces: of several processes one has made the key, and all read that.
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        draft.unlink()


def _check_mode(file: Path) -> None:
    if file.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        _log.warning("the node's key %s can be used by others; chmod 600 it", file)


def _no_key(file: Path) -> Unavailable:
    return Unavailable(
        "bad_node_key",
        f"{file} is no Ed25519 key in PEM; restore it from a copy, or move it away to have a new "
        "one made, which what the old one signed will not be checked with",
    )
