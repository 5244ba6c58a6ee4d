"""Goes over an audit in one pass, in constant memory, and says what is wrong and where.

What it can see: any row that was changed, removed, put in, renumbered or moved between rows that
stayed, in whatever way; and, where a checkpoint was signed after them, rows that were rewritten
with all their hashes, or cut off the end. What it cannot see: rows cut off, or rewritten, after
the last checkpoint that is left, unless an earlier checkpoint is given beside (or another table
still shows what they told of, or another node has written since); that whoever may write to the
database has added a row at the end; and, where no keys are given, an audit that was written anew
as a whole, with keys of its own.
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from modelyard.core.audit import AuditFinding, Chain, Checkpoint, Flaw, Verdict
from modelyard.core.errors import Invalid
from modelyard.gateway.node_key import node_name
from modelyard.registry.chain import FIELDS, GENESIS, changed_fields, checkpoint_text, hash_row

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

Plain = Mapping[str, Any]

_NAMES: Final = frozenset(FIELDS)
_MOST_FINDINGS: Final = 1000


class Keys:
    """The public keys that checkpoints are checked with, by the names of their nodes.

    With `trusted` keys no other counts; without, every key that the audit itself brings.
    """

    def __init__(self, trusted: "tuple[Ed25519PublicKey, ...] | None" = None) -> None:
        self._is_open = trusted is None
        self._keys = {node_name(key): key for key in trusted or ()}

    def offer(self, name: str, pem: str) -> bool:
        """Take a key that the audit brings; False for one whose name is not its own."""
        try:
            key = parse_public_key(pem)
        except Invalid:
            return False
        if node_name(key) != name:
            return False
        if self._is_open:
            self._keys[name] = key
        return True

    def find(self, name: str) -> "Ed25519PublicKey | None":
        """The key of that name, if it counts."""
        return self._keys.get(name)


def parse_public_key(pem: str) -> "Ed25519PublicKey":
    """An Ed25519 public key in PEM; raises `Invalid`."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise Invalid("bad_public_key", "this is no Ed25519 public key in PEM", field="keys")
    return key


def public_pem(key: "Ed25519PublicKey") -> str:
    """A public key in PEM."""
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ).decode()


@dataclass(slots=True)
class _Chain:
    """A chain as far as it was seen. `ends` are the hashes that the next row may hang on."""

    node: str
    first: int = 0
    last: int = 0
    ends: set[str] = field(default_factory=lambda: {GENESIS})
    is_true: bool = True
    rows: int = 0
    checkpoints: int = 0
    proven: int = 0
    vouched: int = 0


class Verification:
    """One pass. Rows and checkpoints come by node and sequence, a checkpoint after its row.

    Of a `part` the first row of each node may hang on what is not there.
    """

    def __init__(self, keys: Keys, *, is_part: bool = False) -> None:
        self._keys = keys
        self._is_part = is_part
        self._chain = _Chain("")
        self._chains: list[Chain] = []
        self._findings: list[AuditFinding] = []
        self._found = 0
        self._strangers: set[str] = set()
        self._seen: set[str] = set()
        self.missing = 0

    def key(self, name: str, pem: str) -> None:
        """A public key that the audit brings."""
        if not self._keys.offer(name, pem):
            self.find(Flaw.FORGED, name, 0, 0, f"the key of {name} is not the one of that name")

    def row(self, plain: Plain, previous: str, digest: str, marks: str) -> None:
        """A row: its fields, the hash before it, its own, and the marks of its fields."""
        sequence = plain.get("sequence")
        node = str(plain.get("node"))
        if not isinstance(sequence, int) or plain.keys() != _NAMES:
            self.find(Flaw.CHANGED, node, 0, 0, "a row has no number, or not its fields")
            return
        chain = self._at(node)
        is_true = hash_row(plain, previous) == digest
        if not is_true:
            self._tell_changed(plain, marks)
        step = sequence - chain.last
        if chain.rows == 0 and self._is_part:
            chain.first = sequence
        elif step > 1:
            self._tell_missing(chain.last + 1, sequence - 1)
        elif step < 1:
            self._tell_inserted(sequence)
        elif previous not in chain.ends and is_true and chain.is_true:
            self._tell_replaced(sequence)
        if step == 0:
            chain.ends.add(digest)
        else:
            chain.ends = {digest}
        chain.first = chain.first or sequence
        chain.last, chain.is_true = sequence, is_true
        chain.rows += 1

    def checkpoint(self, checkpoint: Checkpoint) -> None:
        """A checkpoint, of this audit or of an earlier export of it."""
        chain = self._at(checkpoint.node)
        if not self._is_signed(checkpoint):
            return
        chain.checkpoints += 1
        sequence = checkpoint.sequence
        if sequence > chain.last:
            chain.vouched = sequence
        elif checkpoint.hash in chain.ends:
            chain.proven = sequence
        elif chain.is_true:
            self.find(
                Flaw.REWRITTEN,
                chain.node,
                max(chain.proven + 1, chain.first),
                sequence,
                f"the chain is not the one whose row {sequence} was signed for at "
                f"{checkpoint.at:%Y-%m-%d %H:%M:%S}: rows up to it were written anew",
            )

    def end(self) -> Verdict:
        """What was found."""
        self._close()
        return Verdict(
            rows=sum(chain.rows for chain in self._chains),
            chains=tuple(self._chains),
            findings=tuple(self._findings),
            found=self._found,
        )

    def find(
        self,
        flaw: Flaw,
        node: str,
        first: int,
        last: int,
        message: str,
        fields: tuple[str, ...] = (),
    ) -> None:
        """Note a flaw."""
        self._found += 1
        if len(self._findings) < _MOST_FINDINGS:
            self._findings.append(
                AuditFinding(
                    flaw=flaw, node=node, first=first, last=last, fields=fields, message=message
                )
            )

    def _at(self, node: str) -> _Chain:
        if node != self._chain.node:
            self._close()
            if node in self._seen:
                self.find(Flaw.DAMAGED, node, 0, 0, f"the rows of {node} do not stand together")
            self._seen.add(node)
            self._chain = _Chain(node)
        return self._chain

    def _close(self) -> None:
        chain = self._chain
        if chain.vouched > chain.last and (chain.rows or not self._is_part):
            self.missing += chain.vouched - chain.last
            self.find(
                Flaw.TRUNCATED,
                chain.node,
                chain.last + 1,
                chain.vouched,
                f"{_rows(chain.last + 1, chain.vouched)} gone from the end: a checkpoint has seen "
                f"row {chain.vouched}",
            )
        if chain.rows or chain.checkpoints:
            self._chains.append(
                Chain(
                    node=chain.node,
                    first=chain.first,
                    last=chain.last,
                    hash=min(chain.ends),
                    rows=chain.rows,
                    checkpoints=chain.checkpoints,
                    proven=chain.proven,
                )
            )

    def _is_signed(self, checkpoint: Checkpoint) -> bool:
        from cryptography.exceptions import InvalidSignature

        node, sequence = checkpoint.node, checkpoint.sequence
        key = self._keys.find(checkpoint.signer)
        if key is None:
            if checkpoint.signer not in self._strangers:
                self._strangers.add(checkpoint.signer)
                self.find(
                    Flaw.UNKNOWN_SIGNER,
                    node,
                    sequence,
                    sequence,
                    f"checkpoints are signed by {checkpoint.signer}, whose key is not known or not "
                    "trusted; they count for nothing",
                )
            return False
        try:
            signature = base64.b64decode(checkpoint.signature, validate=True)
            key.verify(signature, checkpoint_text(checkpoint))
        except (InvalidSignature, binascii.Error, ValueError):
            self.find(
                Flaw.FORGED,
                node,
                sequence,
                sequence,
                f"the checkpoint at row {sequence} was not signed by {checkpoint.signer}",
            )
            return False
        return True

    def _tell_changed(self, plain: Plain, marks: str) -> None:
        sequence = plain["sequence"]
        fields = tuple(changed_fields(plain, marks))
        # All fields as they were marked: then it is the hash, or the hash before it.
        what = f"its {', '.join(fields)}" if fields else "its hash, or the hash before it"
        self.find(
            Flaw.CHANGED,
            plain["node"],
            sequence,
            sequence,
            f"row {sequence} was changed: {what}",
            fields or ("hash",),
        )

    def _tell_missing(self, first: int, last: int) -> None:
        self.missing += last - first + 1
        node = self._chain.node
        self.find(Flaw.MISSING, node, first, last, f"{_rows(first, last)} gone")

    def _tell_inserted(self, sequence: int) -> None:
        self.find(
            Flaw.INSERTED,
            self._chain.node,
            sequence,
            sequence,
            f"there is more than one row {sequence}",
        )

    def _tell_replaced(self, sequence: int) -> None:
        before = sequence - 1
        message = (
            f"row {before} was rewritten with its hash: row {sequence} hangs on another"
            if before
            else "row 1 hangs on another: what was before it is gone"
        )
        self.find(Flaw.REPLACED, self._chain.node, max(before, 1), max(before, 1), message)


def _rows(first: int, last: int) -> str:
    return f"row {first} is" if first == last else f"rows {first} to {last} are"
