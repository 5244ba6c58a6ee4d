"""The audit as a file of JSON lines, and its proof without a database.

The first line says of which registry it is and when it was written; then come the public keys; then
each node's rows in their order, a checkpoint after the row that it is about; the last line counts
them. A row's `row` is what was hashed together with `previous`: see `registry.chain`.
"""

import datetime
from collections.abc import Iterable, Iterator
from typing import Any, Final

import msgspec

from modelyard.core.audit import Checkpoint, Flaw, Verdict
from modelyard.core.errors import Invalid
from modelyard.registry.verification import Keys, Verification, parse_public_key

FORMAT: Final = "modelyard.audit/1"


class Head(msgspec.Struct, frozen=True, kw_only=True, tag="audit", tag_field="type"):
    """The first line. With `since` or `until` the rest is a part of each chain."""

    format: str = FORMAT
    registry: str
    exported: datetime.datetime
    since: datetime.datetime | None = None
    until: datetime.datetime | None = None


class KeyLine(msgspec.Struct, frozen=True, kw_only=True, tag="key", tag_field="type"):
    """A public key in PEM, and the name of the node whose it is."""

    id: str
    public_key: str


class RowLine(msgspec.Struct, frozen=True, kw_only=True, tag="row", tag_field="type"):
    """A row, the hash before it, its own, and the marks of its fields."""

    row: dict[str, Any]
    previous: str
    hash: str
    marks: str


class CheckpointLine(msgspec.Struct, frozen=True, kw_only=True, tag="checkpoint", tag_field="type"):
    """A checkpoint."""

    signer: str
    node: str
    sequence: int
    hash: str
    at: datetime.datetime
    signature: str

    @staticmethod
    def of(checkpoint: Checkpoint) -> "CheckpointLine":
        """The line of a checkpoint."""
        return CheckpointLine(
            signer=checkpoint.signer,
            node=checkpoint.node,
            sequence=checkpoint.sequence,
            hash=checkpoint.hash,
            at=checkpoint.at,
            signature=checkpoint.signature,
        )

    def checkpoint(self) -> Checkpoint:
        """The checkpoint of a line."""
        return Checkpoint(
            signer=self.signer,
            node=self.node,
            sequence=self.sequence,
            hash=self.hash,
            at=self.at.astimezone(datetime.UTC),
            signature=self.signature,
        )


class End(msgspec.Struct, frozen=True, kw_only=True, tag="end", tag_field="type"):
    """The last line: without it, the file was cut."""

    rows: int
    checkpoints: int


_Line = Head | KeyLine | RowLine | CheckpointLine | End

_decode = msgspec.json.Decoder(_Line).decode


def write_line(line: _Line) -> bytes:
    """One line, with its end."""
    return msgspec.json.encode(line) + b"\n"


def read_checkpoints(lines: Iterable[bytes]) -> Iterator[Checkpoint]:
    """The checkpoints of an export; raises `Invalid` for a line that is none."""
    for number, data in enumerate(lines, start=1):
        line = _read(data, number)
        if isinstance(line, CheckpointLine):
            yield line.checkpoint()


def verify_export(lines: Iterable[bytes], *, keys: tuple[str, ...] = ()) -> Verdict:
    """Go over an export as `AuditBook.verify` goes over a database; needs none.

    Raises `Invalid` for a file that is no export.
    """
    trusted = tuple(map(parse_public_key, keys)) if keys else None
    numbered = enumerate(lines, start=1)
    first = next(numbered, None)
    head = None if first is None else _read(first[1], 1)
    if not isinstance(head, Head) or head.format != FORMAT:
        raise Invalid("no_audit_export", f"this is no audit export: line 1 is no head of {FORMAT}")
    verification = Verification(
        Keys(trusted), is_part=head.since is not None or head.until is not None
    )
    rows = checkpoints = 0
    end: End | None = None
    for number, data in numbered:
        if end is not None:
            verification.find(Flaw.DAMAGED, "", 0, 0, f"line {number} comes after the last line")
            break
        match _read(data, number):
            case KeyLine() as line:
                verification.key(line.id, line.public_key)
            case RowLine() as line:
                verification.row(line.row, line.previous, line.hash, line.marks)
                rows += 1
            case CheckpointLine() as line:
                verification.checkpoint(line.checkpoint())
                checkpoints += 1
            case End() as line:
                end = line
            case Head():
                verification.find(Flaw.DAMAGED, "", 0, 0, f"line {number} is a second head")
    if end is None:
        verification.find(Flaw.DAMAGED, "", 0, 0, "the file was cut: its last line is missing")
    elif (end.rows, end.checkpoints) != (rows, checkpoints):
        verification.find(
            Flaw.DAMAGED,
            "",
            0,
            0,
            f"the file has {rows} rows and {checkpoints} checkpoints, its last line says "
            f"{end.rows} and {end.checkpoints}",
        )
    return verification.end()


def _read(data: bytes, number: int) -> _Line:
    try:
        line: _Line = _decode(data)
    except msgspec.DecodeError as error:
        raise Invalid(
            "no_audit_export", f"line {number} is no line of an audit export: {error}"
        ) from None
    return line
