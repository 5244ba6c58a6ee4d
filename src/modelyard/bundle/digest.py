"""Digests: sha256 over bytes, files and canonical JSON."""

import hashlib
from pathlib import Path

import msgspec

PREFIX = "sha256:"
"""How a bundle's digest begins; blobs are named by the bare lower-case hex."""


def sha256_bytes(data: bytes) -> str:
    """The sha256 of bytes, in lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def sha256_file(path: Path) -> str:
    """The sha256 of a file's bytes, in lower-case hex, read in pieces (about 1 GB a second)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def canonical_json(value: object) -> bytes:
    """JSON with sorted keys, no white space, shortest floats, UTF-8: one value, one spelling."""
    return msgspec.json.encode(value, order="sorted")
