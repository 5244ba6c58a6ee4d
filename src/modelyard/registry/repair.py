"""Hold a blob store against what the registry refers to: name what is wrong, collect leftovers."""

import hashlib
from collections.abc import Sequence, Set
from dataclasses import dataclass

from sqlalchemy import Connection, select

from modelyard.bundle.digest import PREFIX
from modelyard.core.errors import DamagedBundle, NotFound
from modelyard.core.ports import BlobStore
from modelyard.core.records import Finding, Problem
from modelyard.registry.database import Database
from modelyard.registry.tables import bundles, versions


@dataclass(frozen=True, slots=True)
class _Use:
    """A blob as a bundle knows it."""

    sha256: str
    path: str
    versions: tuple[str, ...]


def check(database: Database, blobs: BlobStore) -> list[Finding]:
    """Everything wrong; reads every byte of every known version (about 1 GB a second).

    The files of a publish that is running now look like leftovers.
    """
    # Names before references: what is published in between is then not taken for a leftover.
    leftovers, present = blobs.leftovers(), set(blobs.digests())
    with database.read() as connection:
        uses = _uses(connection)
    stray = sorted(present - {use.sha256 for use in uses})
    # Each blob is read once, however many bundles share it.
    problems = {digest: _problem(blobs, digest) for digest in {use.sha256 for use in uses}}
    broken = [
        _broken(use, problem) for use in uses if (problem := problems[use.sha256]) is not None
    ]
    return [*broken, *(_leftover(name) for name in [*leftovers, *stray])]


def repair(database: Database, blobs: BlobStore) -> list[Finding]:
    """Collect what was left over, and say what that was.

    A publish in another process holds the store, so that its blobs are waited for, and never
    taken; raises `Conflict` when that takes too long.
    """

    def referenced() -> Set[str]:
        with database.read() as connection:
            return {use.sha256 for use in _uses(connection)}

    return [_leftover(name) for name in blobs.collect(referenced)]


def _uses(connection: Connection) -> Sequence[_Use]:
    """Every file of every bundle."""
    named: dict[str, list[str]] = {}
    for model, number, digest in connection.execute(
        select(versions.c.model, versions.c.number, versions.c.digest).order_by(
            versions.c.model, versions.c.number
        )
    ):
        named.setdefault(digest, []).append(f"{model}:{number}")
    return [
        _Use(file["sha256"], file["path"], tuple(named.get(digest, ())))
        for digest, files in connection.execute(
            select(bundles.c.digest, bundles.c.files).order_by(bundles.c.created, bundles.c.digest)
        )
        for file in files
    ]


def _problem(blobs: BlobStore, digest: str) -> Problem | None:
    try:
        with blobs.file(digest).open("rb") as file:
            actual = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except (NotFound, FileNotFoundError):
        return Problem.MISSING_BLOB
    except DamagedBundle:
        return Problem.DAMAGED_BLOB
    return None if actual == digest else Problem.DAMAGED_BLOB


def _broken(use: _Use, problem: Problem) -> Finding:
    what = "is missing" if problem is Problem.MISSING_BLOB else "is damaged"
    return Finding(
        problem=problem,
        name=PREFIX + use.sha256,
        message=f"'{use.path}' of {', '.join(use.versions)} {what}; publish the same bundle again "
        "or import it from a good copy",
        path=use.path,
        versions=use.versions,
    )


def _leftover(name: str) -> Finding:
    if len(name) == 64:
        return Finding(
            problem=Problem.UNREFERENCED_BLOB,
            name=PREFIX + name,
            message="a blob that no version refers to, left over from a publish that did not end",
        )
    return Finding(
        problem=Problem.UNFINISHED_FILE,
        name=name,
        message="a half-written file, left over from a publish that did not end",
    )
