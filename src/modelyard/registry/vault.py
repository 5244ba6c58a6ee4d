"""Encryption of a home: what is encrypted, and making it so, with which key."""

from collections.abc import Iterator
from dataclasses import dataclass

from modelyard.bundle.keyring import Keyring
from modelyard.core.identity import Actor
from modelyard.registry.auditing import write_audit
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.database import Database
from modelyard.registry.payloads import PayloadBook


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultState:
    """How a home stands. `key` is the id of the key that encrypts, "" for none.

    `wrapped_by` counts the model files that each key opens, by its id; `missing` are those keys of
    them that the source does not give.
    """

    source: str
    key: str
    older_keys: tuple[str, ...]
    encrypted: int
    plain: int
    wrapped_by: dict[str, int]
    missing: tuple[str, ...]


class Vault:
    """A home's model files and payload keys, and the keys that they are encrypted with."""

    def __init__(
        self, database: Database, blobs: LocalBlobStore, payloads: PayloadBook, keys: Keyring
    ) -> None:
        self._database = database
        self._blobs = blobs
        self._payloads = payloads
        self._keys = keys

    def state(self) -> VaultState:
        """How it stands; reads the head of every encrypted file. Raises as the key's source."""
        found = self._blobs.survey()
        keys = self._keys.all() if self._keys else ()
        known = [each.id for each in keys]
        return VaultState(
            source=self._keys.source,
            key=known[0] if known else "",
            older_keys=tuple(known[1:]),
            encrypted=found.sealed,
            plain=found.plain,
            wrapped_by=found.wrapped_by,
            missing=tuple(sorted(found.wrapped_by.keys() - set(known))),
        )

    def encrypt(self, *, actor: str | Actor, reason: str = "") -> Iterator[str]:
        """Encrypt what is not, and give the name of each file when it is done.

        Ended at any moment, everything can be read; begun again, it goes on.
        """
        key = self._keys.current().id
        count = 0
        for count, name in enumerate(self._blobs.encrypt(), start=1):  # noqa: B007 - counted
            yield name
        self._payloads.rewrap()
        self._audit("encrypt_home", key, count, actor, reason)

    def rotate(self, *, actor: str | Actor, reason: str = "") -> Iterator[str]:
        """Have the first key open everything and no other; gives the name of each file changed.

        No file's content is written again. Ended at any moment, everything can be read with the
        old key or the new one; begun again, it goes on.
        """
        self._keys.refresh()
        key = self._keys.current().id
        count = 0
        for count, name in enumerate(self._blobs.rewrap(), start=1):  # noqa: B007 - counted
            yield name
        self._payloads.rewrap()
        self._audit("rotate_encryption_key", key, count, actor, reason)

    def _audit(self, action: str, key: str, count: int, actor: str | Actor, reason: str) -> None:
        with self._database.write() as connection:
            write_audit(
                connection,
                action=action,
                actor=actor,
                kind="encryption",
                subject=key,
                reason=reason,
                details={"files": count},
            )
