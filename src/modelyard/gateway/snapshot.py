"""What a node goes by while its registry does not answer: sealed, and good for a bounded time.

A line that names the format, a line with an Ed25519 signature of all the rest, and JSON.
"""

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from modelyard.core.errors import Invalid
from modelyard.core.route import Route
from modelyard.core.rules import Rules

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

MOST_BYTES: Final = 64 * 1024 * 1024
_FORMAT: Final = b"modelyard.snapshot/1"
_SKEW_S: Final = 60.0
"""By how much a clock may have been put back since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedVersion:
    """A version that a route names: its bundle, and who has signed that."""

    model: str
    number: int
    digest: str
    signatures: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A registry's rules and routes. `registry` is its identity, `read_at` a Unix time."""

    registry: str
    read_at: float
    rules: Rules
    generation: int = 0
    routes: tuple[Route, ...] = ()
    versions: tuple[ServedVersion, ...] = ()


def seal(snapshot: Snapshot, key: "Ed25519PrivateKey") -> bytes:
    """A snapshot as a file has it; raises `Invalid` where it is too large to be kept."""
    payload = msgspec.json.encode(snapshot)
    if len(payload) > MOST_BYTES:
        raise _bad(f"is larger than {MOST_BYTES >> 20} MiB")
    signature = base64.b64encode(key.sign(_FORMAT + b"\n" + payload))
    return b"\n".join((_FORMAT, signature, payload))


def unseal(
    data: bytes, key: "Ed25519PublicKey", *, registry: str, now: float, longest_s: float
) -> Snapshot:
    """The snapshot in a file's bytes; raises `Invalid` where nobody should go by it.

    That is one that this node has not signed, of another registry, or that is too old.
    """
    from cryptography.exceptions import InvalidSignature

    kind, _, rest = data.partition(b"\n")
    signature, _, payload = rest.partition(b"\n")
    if kind != _FORMAT:
        raise _bad("has another format")
    try:
        key.verify(_decode(signature), _FORMAT + b"\n" + payload)
        snapshot = msgspec.json.decode(payload, type=Snapshot)
    except (InvalidSignature, binascii.Error):
        raise _bad("is not what this node has signed") from None
    except msgspec.MsgspecError as error:
        raise _bad(f"cannot be read ({error})") from None
    if snapshot.registry != registry:
        raise _bad("is of another registry")
    if not now - longest_s <= snapshot.read_at <= now + _SKEW_S:
        raise _bad(
            f"was read {now - snapshot.read_at:.0f} s ago, and {longest_s:.0f} s are allowed"
        )
    return snapshot


def _decode(signature: bytes) -> bytes:
    decoded = base64.b64decode(signature, validate=True)
    if base64.b64encode(decoded) != signature:
        raise binascii.Error
    return decoded


def _bad(why: str) -> Invalid:
    return Invalid("bad_snapshot", f"the snapshot of the registry {why}")
