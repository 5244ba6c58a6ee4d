"""What the audit's proof is made of: checkpoints, and what a verification found."""

import datetime
from dataclasses import dataclass
from enum import StrEnum


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A signed statement: the chain of `node` has `sequence` rows, the last of which has `hash`.

    `signer` is the name of the node that says so, which is the fingerprint of its Ed25519 key;
    `signature` is in base64.
    """

    signer: str
    node: str
    sequence: int
    hash: str
    at: datetime.datetime
    signature: str


class Flaw(StrEnum):
    """What can be wrong with an audit."""

    CHANGED = "changed"
    """A row is not what was hashed."""
    REPLACED = "replaced"
    """A row was rewritten together with its hash: the next one hangs on another."""
    MISSING = "missing"
    """Rows between others are gone."""
    INSERTED = "inserted"
    """A row is there beside another of its number."""
    TRUNCATED = "truncated"
    """Rows at the end are gone that a checkpoint has seen."""
    REWRITTEN = "rewritten"
    """The chain is whole, but not the one that a checkpoint has seen."""
    FORGED = "forged"
    """A checkpoint's signature or a key's name is not good."""
    UNKNOWN_SIGNER = "unknown_signer"
    """A checkpoint is signed by a key that is not there, or not trusted."""
    CONTRADICTED = "contradicted"
    """Another table tells otherwise than the audit."""
    DAMAGED = "damaged"
    """An export is not as it was written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFinding:
    """A flaw and where it is: rows `first` to `last` of a node, and the fields where they can be
    told."""

    flaw: Flaw
    node: str
    first: int
    last: int
    fields: tuple[str, ...] = ()
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """One node's rows: from `first` to `last`, and up to which a good checkpoint vouches for them.

    What lies after `proven` hangs together, but whoever can write to the database could have
    written it, or cut rows off after it.
    """

    node: str
    first: int
    last: int
    hash: str
    rows: int
    checkpoints: int
    proven: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verification saw. Of many findings only the first are kept; `found` counts all."""

    rows: int
    chains: tuple[Chain, ...]
    findings: tuple[AuditFinding, ...]
    found: int

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return self.found == 0
