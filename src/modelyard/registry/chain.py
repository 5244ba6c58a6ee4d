"""The chain that audit rows hang on: what exactly is hashed, and what a checkpoint signs.

A row's text is the JSON object of its `FIELDS` and of `previous`, the hash of the row before it in
the same node's chain (`GENESIS` for the first). Its hash is the SHA-256 of that text, in hex. The
text is canonical by RFC 8785 (sorted names, no white space, UTF-8): as its values are strings,
whole numbers and null only, any implementation of that standard writes the same bytes. `at` is
RFC 3339 in UTC with six digits after the point; `before`, `after` and `details` are texts that
hold JSON, hashed letter by letter as they are stored.

This format is for good: another one would be a new table.
"""

import datetime
import hashlib
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, Final

import msgspec

from modelyard.core.audit import Checkpoint

FIELDS: Final = (
    "id",
    "node",
    "sequence",
    "at",
    "actor",
    "key",
    "tenant",
    "source",
    "request_id",
    "action",
    "kind",
    "subject",
    "model",
    "number",
    "reason",
    "before",
    "after",
    "details",
)
GENESIS: Final = "0" * 64
"""What the first row of a chain hangs on."""
CHECKPOINT: Final = "modelyard.checkpoint/1"

_encode = msgspec.json.Encoder(order="sorted").encode


def write_moment(moment: datetime.datetime) -> str:
    """A moment as it is hashed and exported: `2026-11-22T06:11:43.123456Z`."""
    return moment.astimezone(datetime.UTC).isoformat(timespec="microseconds")[:-6] + "Z"


def plain_row(values: Mapping[str, Any]) -> dict[str, str | int | None]:
    """The fields of a row as they are hashed, from its columns."""
    plain = {field: values[field] for field in FIELDS}
    at = plain["at"]
    # SQLite's own text, whatever it is: what somebody spoilt there must be told, not trip us up.
    plain["at"] = f"{at[:10]}T{at[11:]}Z" if isinstance(at, str) else write_moment(at)
    return plain


def hash_row(plain: Mapping[str, str | int | None], previous: str) -> str:
    """A row's hash, over its fields and the hash before it."""
    return hashlib.sha256(_encode({**plain, "previous": previous})).hexdigest()


def mark_row(plain: Mapping[str, str | int | None]) -> str:
    """A checksum of every field, in the order of `FIELDS`.

    No proof, as the hash is: only a hint at which field of a changed row was changed.
    """
    return "".join(f"{zlib.crc32(_encode(plain[field])):08x}" for field in FIELDS)


def changed_fields(plain: Mapping[str, str | int | None], marks: str) -> Iterator[str]:
    """The fields that are not what they were when the row was marked."""
    there = mark_row(plain)
    for position, field in enumerate(FIELDS):
        here = slice(8 * position, 8 * position + 8)
        if there[here] != marks[here]:
            yield field


def checkpoint_text(checkpoint: Checkpoint) -> bytes:
    """What is signed: that the chain of `node` has `sequence` rows, of which the last has `hash`.

    As rows are numbered from 1 without a gap, `sequence` is their count too.
    """
    return _encode(
        {
            "format": CHECKPOINT,
            "signer": checkpoint.signer,
            "node": checkpoint.node,
            "sequence": checkpoint.sequence,
            "hash": checkpoint.hash,
            "at": write_moment(checkpoint.at),
        }
    )
