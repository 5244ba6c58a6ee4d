"""Signatures of bundles in SQL: who has vouched for which bytes, and when it was brought here.

A signature is kept when it is about its bundle, whoever made it: whether its key counts is the
policy's to say, and may change.
"""

import datetime

from sqlalchemy import Connection, insert, select

from modelyard.bundle.archive import MOST_SIGNATURES
from modelyard.bundle.digest import sha256_bytes
from modelyard.bundle.manifest import Manifest
from modelyard.core.errors import Exhausted
from modelyard.core.identity import Actor, as_actor
from modelyard.core.records import BundleSignature, Version
from modelyard.registry.auditing import write_audit
from modelyard.registry.database import Database
from modelyard.registry.tables import signatures as table


class SignatureBook:
    """The signatures of a registry's bundles. May be used from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, digest: str) -> list[BundleSignature]:
        """Those of a bundle, oldest first; unproven."""
        with self._database.read() as connection:
            return list_signatures(connection, digest)

    def add(
        self,
        version: Version,
        manifest: Manifest,
        signature: bytes,
        *,
        actor: str | Actor,
        reason: str = "",
    ) -> BundleSignature:
        """Keep a signature beside a version's bundle; one that is there already is that one.

        Raises `Invalid` for no signature, `Denied` for one of other bytes, and `Exhausted`.
        """
        with self._database.write() as connection:
            return add_signature(connection, version, manifest, signature, actor, reason)


def list_signatures(connection: Connection, digest: str) -> list[BundleSignature]:
    """The signatures of a bundle, oldest first."""
    rows = connection.execute(
        select(table).where(table.c.digest == digest).order_by(table.c.created, table.c.sha256)
    )
    return [
        BundleSignature(
            sha256=row.sha256,
            signer=row.signer,
            content=row.content,
            created=row.created,
            actor=row.actor,
        )
        for row in rows
    ]


def add_signature(
    connection: Connection,
    version: Version,
    manifest: Manifest,
    signature: bytes,
    actor: str | Actor,
    reason: str,
) -> BundleSignature:
    """Keep a signature, within a transaction of somebody else's."""
    from modelyard.bundle.signing import SignedStatement

    statement = SignedStatement.decode(signature)
    statement.check_subject(manifest)
    sha256 = sha256_bytes(signature)
    present = list_signatures(connection, version.digest)
    for each in present:
        if each.sha256 == sha256:
            return each
    if len(present) >= MOST_SIGNATURES:
        raise Exhausted(
            "too_many_signatures",
            f"{version.model}:{version.number} has {len(present)} signatures, and more are not "
            "kept",
        )
    added = BundleSignature(
        sha256=sha256,
        signer=statement.signer,
        content=signature,
        created=datetime.datetime.now(datetime.UTC),
        actor=as_actor(actor).name,
    )
    connection.execute(
        insert(table).values(
            digest=version.digest,
            sha256=sha256,
            signer=added.signer,
            content=signature,
            created=added.created,
            actor=added.actor,
        )
    )
    write_audit(
        connection,
        action="sign",
        actor=actor,
        kind="model",
        subject=version.model,
        reason=reason,
        model=version.model,
        number=version.number,
        after={"digest": version.digest, "signature": sha256, "signer": statement.signer},
    )
    return added
