"""The audit's book: read it, sign it, prove it, take it away."""

import base64
import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, Connection, String, func, insert, select, type_coerce

from modelyard.core.audit import Checkpoint, Flaw, Verdict
from modelyard.core.records import AuditRow
from modelyard.gateway.node_key import node_name
from modelyard.registry import queries
from modelyard.registry.auditing import Entry, append, chain_head
from modelyard.registry.chain import FIELDS, checkpoint_text, plain_row
from modelyard.registry.contradictions import find_contradictions
from modelyard.registry.database import Database
from modelyard.registry.exports import CheckpointLine, End, Head, KeyLine, RowLine, write_line
from modelyard.registry.tables import audit, audit_checkpoints, audit_keys
from modelyard.registry.verification import Keys, Verification, parse_public_key, public_pem

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_CHUNK: Final = 2000
_Range = tuple[int, int]


class AuditBook:
    """The audit of a registry. May be used from many threads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def rows(
        self,
        *,
        model: str | None = None,
        kind: str | None = None,
        action: str | None = None,
        tenant: str | None = None,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
        before: int | None = None,
        limit: int = 100,
    ) -> list[AuditRow]:
        """Who changed what, newest first: of those that fit, the newest with an id below `before`,
        by which one pages on."""
        query = select(audit).order_by(audit.c.id.desc()).limit(limit)
        for column, wanted in (
            (audit.c.model, model),
            (audit.c.kind, kind),
            (audit.c.action, action),
            (audit.c.tenant, tenant),
        ):
            if wanted is not None:
                query = query.where(column == wanted)
        if since is not None:
            query = query.where(audit.c.at >= since.astimezone(datetime.UTC))
        if until is not None:
            query = query.where(audit.c.at < until.astimezone(datetime.UTC))
        if before is not None:
            query = query.where(audit.c.id < before)
        with self._database.read() as connection:
            return [queries.to_audit_row(row) for row in connection.execute(query).mappings()]

    def note(self, entries: Iterable[Entry]) -> None:
        """Write down what changed no state here, but happened."""
        with self._database.write() as connection:
            append(connection, entries)

    def checkpoint(
        self, key: "Ed25519PrivateKey", *, every_rows: int = 1, every_s: float = 0.0
    ) -> list[Checkpoint]:
        """Sign how far each chain has come that has grown since it was last signed, by whomever.

        With `every_rows` and `every_s`, only those that have grown by so much, or were last signed
        so long ago. So every node of a registry vouches for all of it, and may call this as often
        as it likes.
        """
        with self._database.read() as connection:
            if not any(_due(connection, every_rows, every_s)):
                return []
        with self._database.write() as connection:
            made = [
                _sign(key, node, *chain_head(connection, node))
                for node in _due(connection, every_rows, every_s)
            ]
            if made:
                _store(connection, key, made)
            return made

    def checkpoints(self, node: str | None = None) -> list[Checkpoint]:
        """What was signed, oldest first."""
        query = select(audit_checkpoints).order_by(audit_checkpoints.c.id)
        if node is not None:
            query = query.where(audit_checkpoints.c.node == node)
        with self._database.read() as connection:
            return [_to_checkpoint(row) for row in connection.execute(query).mappings()]

    def verify(self, *, keys: Sequence[str] = (), earlier: Iterable[Checkpoint] = ()) -> Verdict:
        """Go over every row and say what is wrong; see `verification` for what can be seen.

        With `keys`, public keys in PEM, only what these have signed counts. `earlier` are
        checkpoints that were taken away before, which nobody here could have removed.
        """
        trusted = tuple(map(parse_public_key, keys)) if keys else None
        verification = Verification(Keys(trusted))
        taken: dict[str, list[Checkpoint]] = {}
        for checkpoint in earlier:
            taken.setdefault(checkpoint.node, []).append(checkpoint)
        with self._database.read() as connection:
            for name, pem in connection.execute(select(audit_keys.c.id, audit_keys.c.public_key)):
                verification.key(name, pem)
            for node in [*_nodes(connection), *sorted(set(taken) - set(_nodes(connection)))]:
                there = [*_checkpoints(connection, node), *taken.get(node, ())]
                _follow(verification, _rows(connection, node), there)
            _look_for_gaps(connection, verification)
            for message in find_contradictions(connection):
                verification.find(Flaw.CONTRADICTED, "", 0, 0, message)
        return verification.end()

    def export(
        self,
        *,
        since: datetime.datetime | None = None,
        until: datetime.datetime | None = None,
    ) -> Iterator[bytes]:
        """The audit as JSON lines, with all that is needed to prove it elsewhere.

        With `since` or `until`, of each chain the part that lies between. As the audit only grows,
        it is read in pieces up to where it ended at first: no connection is held while they are
        given out, as whoever takes them may be slow.
        """
        with self._database.read() as connection:
            head = Head(
                registry=queries.identity(connection),
                exported=datetime.datetime.now(datetime.UTC),
                since=since,
                until=until,
            )
            keys = connection.execute(select(audit_keys.c.id, audit_keys.c.public_key)).all()
            parts = {
                node: part
                for node in _nodes(connection)
                if (part := _part(connection, node, since, until)) is not None
            }
        yield write_line(head)
        for id, pem in keys:
            yield write_line(KeyLine(id=id, public_key=pem))
        rows = checkpoints = 0
        for node, part in parts.items():
            for lines, there in self._pieces(node, part):
                signed = iter(there)
                following = next(signed, None)
                for line in lines:
                    yield write_line(line)
                    rows += 1
                    while following is not None and following.sequence <= line.row["sequence"]:
                        yield write_line(CheckpointLine.of(following))
                        checkpoints += 1
                        following = next(signed, None)
        yield write_line(End(rows=rows, checkpoints=checkpoints))

    def _pieces(self, node: str, part: _Range) -> Iterator[tuple[list[RowLine], list[Checkpoint]]]:
        """The rows of a part of a chain with their checkpoints, some at a time."""
        first, last = part
        while first <= last:
            with self._database.read() as connection:
                end = _chunk_end(connection, node, (first, last))
                lines = list(_rows(connection, node, (first, end)))
                checkpoints = list(_checkpoints(connection, node, (first, end)))
            yield lines, checkpoints
            first = end + 1


def _due(connection: Connection, every_rows: int, every_s: float) -> Iterator[str]:
    now = datetime.datetime.now(datetime.UTC)
    for node in _nodes(connection):
        length, _ = chain_head(connection, node)
        last = connection.execute(
            select(audit_checkpoints.c.sequence, audit_checkpoints.c.at)
            .where(audit_checkpoints.c.node == node)
            .order_by(audit_checkpoints.c.sequence.desc())
            .limit(1)
        ).one_or_none()
        if last is None:
            yield node
        elif length > last.sequence:
            age_s = (now - last.at).total_seconds()
            if length - last.sequence >= every_rows or age_s >= every_s:
                yield node


def _sign(key: "Ed25519PrivateKey", node: str, sequence: int, digest: str) -> Checkpoint:
    values: dict[str, Any] = {
        "signer": node_name(key.public_key()),
        "node": node,
        "sequence": sequence,
        "hash": digest,
        "at": datetime.datetime.now(datetime.UTC),
    }
    text = checkpoint_text(Checkpoint(**values, signature=""))
    return Checkpoint(**values, signature=base64.b64encode(key.sign(text)).decode())


def _store(connection: Connection, key: "Ed25519PrivateKey", made: Sequence[Checkpoint]) -> None:
    name = node_name(key.public_key())
    if connection.execute(select(audit_keys.c.id).where(audit_keys.c.id == name)).first() is None:
        connection.execute(
            insert(audit_keys).values(
                id=name,
                public_key=public_pem(key.public_key()),
                created=datetime.datetime.now(datetime.UTC),
            )
        )
    last = connection.execute(select(func.max(audit_checkpoints.c.id))).scalar() or 0
    connection.execute(
        insert(audit_checkpoints),
        [
            {
                "id": number,
                "signer": each.signer,
                "node": each.node,
                "sequence": each.sequence,
                "hash": each.hash,
                "at": each.at,
                "signature": each.signature,
            }
            for number, each in enumerate(made, start=last + 1)
        ],
    )


def _follow(
    verification: Verification, rows: Iterable[RowLine], checkpoints: Iterable[Checkpoint]
) -> None:
    """One chain: every checkpoint after the row that it is about, or would be."""
    signed = iter(sorted(checkpoints, key=lambda each: each.sequence))
    following = next(signed, None)
    for line in rows:
        sequence = line.row["sequence"]
        while following is not None and isinstance(sequence, int) and following.sequence < sequence:
            verification.checkpoint(following)
            following = next(signed, None)
        verification.row(line.row, line.previous, line.hash, line.marks)
    while following is not None:
        verification.checkpoint(following)
        following = next(signed, None)


def _look_for_gaps(connection: Connection, verification: Verification) -> None:
    """Rows cut off one chain are seen by what other chains have written since: ids have no gap."""
    ids = select(audit.c.id, func.lag(audit.c.id, 1, 0).over(order_by=audit.c.id).label("last"))
    gaps = ids.subquery()
    lost = connection.execute(
        select(
            func.sum(gaps.c.id - gaps.c.last - 1),
            func.min(gaps.c.last + 1),
            func.max(gaps.c.id - 1),
        ).where(gaps.c.id - gaps.c.last > 1)
    ).one()
    number = int(lost[0] or 0)
    if number > verification.missing:
        verification.find(
            Flaw.TRUNCATED,
            "",
            int(lost[1]),
            int(lost[2]),
            f"{number - verification.missing} rows were cut off the end of chains that go on no "
            f"more; their ids lie between {lost[1]} and {lost[2]}",
        )


def _nodes(connection: Connection) -> list[str]:
    """Every node that has rows or checkpoints; cheap, however many these are."""
    found: set[str] = set()
    for column in (audit.c.node, audit_checkpoints.c.node):
        last: str | None = ""
        while last is not None:
            query = select(column).where(column > last).order_by(column).limit(1)
            last = connection.execute(query).scalar()
            found |= {last} if last is not None else set()
    return sorted(found)


def _rows(connection: Connection, node: str, part: _Range | None = None) -> Iterator[RowLine]:
    columns: dict[str, ColumnElement[Any]] = {field: audit.c[field] for field in FIELDS}
    if connection.dialect.name == "sqlite":
        # As it is stored, so that a spoilt one is told and does not stop us.
        columns["at"] = type_coerce(audit.c.at, String).label("at")
    query = (
        select(*columns.values(), audit.c.previous, audit.c.hash, audit.c.marks)
        .where(audit.c.node == node)
        .order_by(audit.c.sequence)
        .execution_options(yield_per=_CHUNK)
    )
    if part is not None:
        query = query.where(audit.c.sequence.between(*part))
    for row in connection.execute(query):
        fields = dict(zip(FIELDS, row[:-3], strict=True))
        yield RowLine(row=plain_row(fields), previous=row[-3], hash=row[-2], marks=row[-1])


def _chunk_end(connection: Connection, node: str, part: _Range) -> int:
    """The number of the last row of the first piece of a part, whatever numbers the rows have."""
    numbers = (
        select(audit.c.sequence)
        .where(audit.c.node == node, audit.c.sequence.between(*part))
        .order_by(audit.c.sequence)
        .limit(_CHUNK)
        .subquery()
    )
    end = connection.execute(select(func.max(numbers.c.sequence))).scalar()
    return part[1] if end is None else int(end)


def _checkpoints(
    connection: Connection, node: str, part: _Range | None = None
) -> Iterator[Checkpoint]:
    query = (
        select(audit_checkpoints)
        .where(audit_checkpoints.c.node == node)
        .order_by(audit_checkpoints.c.sequence, audit_checkpoints.c.id)
    )
    if part is not None:
        query = query.where(audit_checkpoints.c.sequence.between(*part))
    return map(_to_checkpoint, connection.execute(query).mappings())


def _to_checkpoint(row: Mapping[Any, Any]) -> Checkpoint:
    return Checkpoint(**{field: row[field] for field in row if field != "id"})


def _part(
    connection: Connection,
    node: str,
    since: datetime.datetime | None,
    until: datetime.datetime | None,
) -> _Range | None:
    """The part of a chain that lies between two moments; None where nothing does."""
    here = audit.c.node == node
    first = select(func.min(audit.c.sequence)).where(here)
    last = select(func.max(audit.c.sequence)).where(here)
    if since is not None:
        first = first.where(audit.c.at >= since.astimezone(datetime.UTC))
    if until is not None:
        last = last.where(audit.c.at < until.astimezone(datetime.UTC))
    low, high = connection.execute(first).scalar(), connection.execute(last).scalar()
    return None if low is None or high is None or low > high else (low, high)
