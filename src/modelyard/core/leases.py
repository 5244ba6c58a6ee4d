"""Leases of quotas: what a node and the registry say to each other about them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a node keeps and has spent of a quota in a period, and how much more it asks for.

    `kept` is all that it was ever given, less what it gives back by this; `least` is what waiting
    calls need, `more` what it would like besides. With `is_new` it knows of no spending, and goes
    on from what the registry has. `answered` is the newest want that it has given everything back
    for. `quota` is what the limit allows in the period.
    """

    limit: str
    words: str
    period: str
    quota: int
    kept: int = 0
    spent: int = 0
    least: int = 0
    more: int = 0
    answered: int = 0
    is_new: bool = False

    @property
    def subject(self) -> str:
        """The name of the subject in the registry."""
        return digest_words(self.words)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """How a node's lease stands in the registry.

    `granted` is all that it was ever given and has not given back, `spent` what it said that it
    has spent, `free` what nobody holds. `wanted` is the number of the newest want of anybody, 0
    for none; while `is_owed`, others may still give something back.
    """

    limit: str
    words: str
    period: str
    granted: int
    spent: int
    free: int = 0
    wanted: int = 0
    answered: int = 0
    is_owed: bool = False


class LeaseStore(Protocol):
    """The registry's side. Every method waits for the database; none runs on an event loop."""

    def exchange(self, node: str, asks: Sequence[Ask]) -> Sequence[Lease]:
        """Answer the asks in one transaction, in their order; what is granted over all nodes never
        exceeds a quota."""
        ...

    def held(self, node: str) -> Sequence[Lease]:
        """The leases of a node, with the wants of others."""
        ...

    def beat(self, node: str) -> int:
        """Say that a node lives; how many do."""
        ...

    def leave(self, node: str) -> None:
        """Say that a node lives no more."""
        ...


def digest_words(words: str) -> str:
    """The name of a subject, of one length whatever its words are."""
    return hashlib.blake2b(words.encode(), digest_size=16).hexdigest()
