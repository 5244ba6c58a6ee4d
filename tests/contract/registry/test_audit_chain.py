"""Whoever tampers with the audit is found out, on every database, and it is said where."""

import datetime
import itertools
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import IntegrityError

from modelyard.core.audit import AuditFinding, Flaw, Verdict
from modelyard.core.errors import Invalid
from modelyard.core.identity import Actor
from modelyard.gateway.node_key import node_name
from modelyard.registry.audit import AuditBook
from modelyard.registry.auditing import write_audit
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.chain import GENESIS, hash_row
from modelyard.registry.database import Database
from modelyard.registry.exports import read_checkpoints, verify_export
from modelyard.registry.registry import Registry
from modelyard.registry.verification import public_pem
from modelyard.testing.bundles import make_bundle

_ROWS = 10
_KEY = Ed25519PrivateKey.generate()
_NODE = node_name(_KEY.public_key())


class Audit:
    """A registry's audit with ten rows, of which six are under a checkpoint, and its raw tables."""

    def __init__(self, url: str) -> None:
        self.database = Database.open(url, lambda: _NODE)
        self.book = AuditBook(self.database)
        self.raw: Engine = create_engine(url)
        self.write(6)
        self.book.checkpoint(_KEY)
        self.write(4)

    def write(self, count: int) -> None:
        """Add rows by this node."""
        for number in range(count):
            with self.database.write() as connection:
                write_audit(
                    connection,
                    action="set",
                    actor=Actor(name="ann", key="k1", tenant="acme", source="10.0.0.1"),
                    kind="limit",
                    subject=f"limit-{number}",
                    reason="söhne\u2028\t\x01",
                    before={"rate": 1.5, "zone": None},
                    after={"rate": 1e-7},
                )

    def tamper(self, *statements: str) -> None:
        """What somebody with all rights can do: the triggers go first."""
        with self.raw.begin() as connection:
            if connection.dialect.name == "postgresql":
                for table in ("audit", "audit_checkpoints", "audit_keys"):
                    connection.execute(text(f"ALTER TABLE {table} DISABLE TRIGGER USER"))
            else:
                for name in connection.execute(
                    text(
                        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN "
                        "('audit', 'audit_checkpoints', 'audit_keys')"
                    )
                ).scalars():
                    connection.execute(text(f"DROP TRIGGER {name}"))
            for statement in statements:
                connection.exec_driver_sql(statement)

    def findings(self, **options: object) -> list[AuditFinding]:
        """What is wrong."""
        verdict: Verdict = self.book.verify(**options)  # type: ignore[arg-type]
        assert verdict.found == len(verdict.findings)
        return list(verdict.findings)

    def rehash(self, first: int) -> None:
        """Hash the rows from `first` on anew, as the house itself would."""
        lines = [line for line in self.book.export() if b'"type":"row"' in line]
        rows = [msgspec.json.decode(line) for line in lines]
        previous = GENESIS if first == 1 else rows[first - 2]["hash"]
        for row in rows[first - 1 :]:
            digest = hash_row(row["row"], previous)
            self.tamper(
                f"UPDATE audit SET previous = '{previous}', hash = '{digest}' "
                f"WHERE sequence = {row['row']['sequence']}"
            )
            previous = digest


@pytest.fixture
def audit(database_url: str) -> Iterator[Audit]:
    """Ten rows, six of them signed for."""
    made = Audit(database_url)
    yield made
    made.raw.dispose()
    made.database.close()


def test_an_untouched_audit_is_whole(audit: Audit) -> None:
    """The verdict says how far it is signed for."""
    verdict = audit.book.verify()
    assert verdict.is_whole
    [chain] = verdict.chains
    assert (chain.node, chain.rows, chain.last, chain.proven) == (_NODE, _ROWS, _ROWS, 6)
    assert verdict.rows == _ROWS


_CHANGES = {
    "actor": "'bob'",
    "key": "'k2'",
    "tenant": "'evil'",
    "source": "'127.0.0.1'",
    "request_id": "'r'",
    "action": "'get'",
    "kind": "'key'",
    "subject": "'limit-99'",
    "model": "'churn'",
    "number": "7",
    "reason": "'because'",
    "before": "NULL",
    "after": """'{"rate":1}'""",
    "details": """'{"a":1}'""",
    "at": "'2020-01-01 00:00:00.000000'",
}


@pytest.mark.parametrize("sequence", [1, 6, _ROWS])
def test_a_changed_field_is_named(audit: Audit, sequence: int) -> None:
    """Whichever it is; in the first row, under a checkpoint, and in the last."""
    for done, (column, value) in enumerate(_CHANGES.items(), start=1):
        audit.tamper(f"UPDATE audit SET {column} = {value} WHERE sequence = {sequence}")
        [found] = audit.findings()
        assert (found.flaw, found.node) == (Flaw.CHANGED, _NODE)
        assert (found.first, found.last) == (sequence, sequence)
        assert set(found.fields) == set(list(_CHANGES)[:done])


def test_a_row_whose_hash_or_link_was_changed_is_told(audit: Audit) -> None:
    """Though all its fields are as they were, and only once."""
    for column in ("hash", "previous"):
        audit.tamper(f"UPDATE audit SET {column} = '{'f' * 64}' WHERE sequence = 4")
        [found] = audit.findings()
        assert (found.flaw, found.first, found.fields) == (Flaw.CHANGED, 4, ("hash",))


def test_spoilt_values_are_told_and_do_not_stop_the_rest(audit: Audit) -> None:
    """SQLite takes any text for a moment or a number."""
    if audit.raw.dialect.name != "sqlite":
        pytest.skip("PostgreSQL does not take such values")
    audit.tamper(
        "UPDATE audit SET at = 'yesterday' WHERE sequence = 2",
        "UPDATE audit SET actor = x'00ff' WHERE sequence = 3",
        "UPDATE audit SET id = 1000 WHERE sequence = 10",
        "UPDATE audit SET sequence = 'x' WHERE sequence = 9",
    )
    found = audit.findings()
    assert {each.flaw for each in found} >= {Flaw.CHANGED, Flaw.MISSING}
    assert {("at",), ("actor",), ("id",)} <= {each.fields for each in found}


def test_removed_rows_are_told(audit: Audit) -> None:
    """One, several, and the first."""
    audit.tamper("DELETE FROM audit WHERE sequence = 3")
    [found] = audit.findings()
    assert (found.flaw, found.first, found.last) == (Flaw.MISSING, 3, 3)
    audit.tamper("DELETE FROM audit WHERE sequence IN (7, 8)")
    assert [(each.flaw, each.first, each.last) for each in audit.findings()] == [
        (Flaw.MISSING, 3, 3),
        (Flaw.MISSING, 7, 8),
    ]
    audit.tamper("DELETE FROM audit WHERE sequence = 1")
    assert audit.findings()[0].first == 1


def test_rows_that_changed_places_are_told(audit: Audit) -> None:
    """By their numbers, whether or not their ids went along."""
    audit.tamper(
        "UPDATE audit SET sequence = 99 WHERE sequence = 4",
        "UPDATE audit SET sequence = 4 WHERE sequence = 5",
        "UPDATE audit SET sequence = 5 WHERE sequence = 99",
    )
    found = [each for each in audit.findings() if each.flaw is Flaw.CHANGED]
    assert [(each.first, each.fields) for each in found] == [(4, ("sequence",)), (5, ("sequence",))]


def test_an_inserted_row_is_told(audit: Audit) -> None:
    """A copy of a row beside it, where somebody dropped the index; and one between renumbered
    ones."""
    columns = "node, at, actor, key, tenant, source, request_id, action, kind, subject, reason, "
    columns += "details, previous, hash, marks"
    audit.tamper(
        "DROP INDEX ix_audit_node_sequence",
        f"INSERT INTO audit (id, sequence, {columns}) "
        f"SELECT 11, 5, {columns} FROM audit WHERE sequence = 5",
    )
    found = audit.findings()
    assert Flaw.INSERTED in {each.flaw for each in found}
    assert {each.first for each in found} == {5}


def test_a_row_inserted_among_renumbered_ones_is_told(audit: Audit) -> None:
    """Every row after it has another number than the one that was hashed."""
    columns = "node, at, actor, key, tenant, source, request_id, action, kind, subject, reason, "
    columns += "details, previous, hash, marks"
    audit.tamper(
        *(
            f"UPDATE audit SET sequence = {number + 1}, id = {number + 1} WHERE sequence = {number}"
            for number in range(_ROWS, 4, -1)
        ),
        f"INSERT INTO audit (id, sequence, {columns}) "
        f"SELECT 5, 5, {columns} FROM audit WHERE sequence = 4",
    )
    assert min(each.first for each in audit.findings()) == 5


def test_a_row_rewritten_with_its_hash_is_told(audit: Audit) -> None:
    """The next row hangs on what it was."""
    audit.tamper("UPDATE audit SET actor = 'bob' WHERE sequence = 8")
    lines = [line for line in audit.book.export() if b'"sequence":8' in line]
    row = msgspec.json.decode(lines[0])
    digest = hash_row(row["row"], row["previous"])
    audit.tamper(f"UPDATE audit SET hash = '{digest}' WHERE sequence = 8")
    [found] = audit.findings()
    assert (found.flaw, found.first) == (Flaw.REPLACED, 8)


def test_a_chain_hashed_anew_is_told_by_its_checkpoint(audit: Audit) -> None:
    """From the row after the last good checkpoint up to the one that does not fit."""
    audit.tamper("UPDATE audit SET actor = 'bob' WHERE sequence = 2")
    audit.rehash(2)
    [found] = audit.findings()
    assert (found.flaw, found.first, found.last) == (Flaw.REWRITTEN, 1, 6)


def test_what_was_hashed_anew_after_the_last_checkpoint_is_not_seen(audit: Audit) -> None:
    """The verdict does not claim to have proven it."""
    audit.tamper("UPDATE audit SET actor = 'bob' WHERE sequence = 8")
    audit.rehash(8)
    verdict = audit.book.verify()
    assert verdict.is_whole
    assert verdict.chains[0].proven < 8


def test_a_cut_tail_is_told_where_a_checkpoint_has_seen_it(audit: Audit) -> None:
    """Also where all rows are gone."""
    audit.tamper("DELETE FROM audit WHERE sequence > 4")
    [found] = audit.findings()
    assert (found.flaw, found.first, found.last) == (Flaw.TRUNCATED, 5, 6)
    audit.tamper("DELETE FROM audit")
    [found] = audit.findings()
    assert (found.flaw, found.first, found.last) == (Flaw.TRUNCATED, 1, 6)


def test_a_cut_tail_after_the_last_checkpoint_needs_an_earlier_export(audit: Audit) -> None:
    """Without one it cannot be seen; with one it is, though the checkpoint here was removed."""
    audit.book.checkpoint(_KEY)
    exported = list(audit.book.export())
    audit.tamper(
        "DELETE FROM audit WHERE sequence > 6", "DELETE FROM audit_checkpoints WHERE sequence > 6"
    )
    assert audit.book.verify().is_whole
    [found] = audit.findings(earlier=read_checkpoints(exported))
    assert (found.flaw, found.first, found.last) == (Flaw.TRUNCATED, 7, 10)


def test_a_cut_tail_shows_in_what_others_wrote_since(audit: Audit, database_url: str) -> None:
    """Ids of the registry have no gap, so another node's later row gives it away."""
    other = Database.open(database_url, lambda: "other")
    with other.write() as connection:
        write_audit(connection, action="set", actor="bob", kind="limit", subject="x")
    other.close()
    assert audit.book.verify().is_whole
    audit.tamper(f"DELETE FROM audit WHERE node = '{_NODE}' AND sequence > 8")
    [found] = audit.findings()
    assert (found.flaw, found.first, found.last) == (Flaw.TRUNCATED, 9, 10)


def test_a_forged_checkpoint_is_told(audit: Audit) -> None:
    """A changed hash, a changed place, and a signature of another key."""
    audit.tamper(f"UPDATE audit_checkpoints SET hash = '{'0' * 64}'")
    [found] = audit.findings()
    assert (found.flaw, found.first) == (Flaw.FORGED, 6)
    audit.tamper("UPDATE audit_checkpoints SET signature = 'nonsense'")
    assert audit.findings()[0].flaw is Flaw.FORGED


def test_a_signer_who_is_not_trusted_counts_for_nothing(audit: Audit) -> None:
    """With keys given, only theirs; and nobody can take another node's name."""
    stranger = Ed25519PrivateKey.generate()
    audit.book.checkpoint(stranger)
    assert audit.book.verify().chains[0].proven == _ROWS
    trusted = [public_pem(_KEY.public_key())]
    verdict = audit.book.verify(keys=trusted)
    assert [each.flaw for each in verdict.findings] == [Flaw.UNKNOWN_SIGNER]
    assert verdict.chains[0].proven == 6
    audit.tamper(
        f"UPDATE audit_keys SET public_key = '{public_pem(stranger.public_key())}' "
        f"WHERE id = '{_NODE}'"
    )
    assert Flaw.FORGED in {each.flaw for each in audit.findings()}
    with pytest.raises(Invalid, match="no Ed25519 public key"):
        audit.book.verify(keys=["nonsense"])


def test_an_audit_written_anew_as_a_whole_needs_trusted_keys(audit: Audit) -> None:
    """With all rows hashed and signed anew by another key, only whoever knows the keys sees it."""
    stranger = Ed25519PrivateKey.generate()
    audit.tamper(
        "UPDATE audit SET actor = 'bob' WHERE sequence = 2",
        "DELETE FROM audit_checkpoints",
        "DELETE FROM audit_keys",
    )
    audit.rehash(2)
    audit.book.checkpoint(stranger)
    assert audit.book.verify().is_whole
    [found] = audit.findings(keys=[public_pem(_KEY.public_key())])
    assert found.flaw is Flaw.UNKNOWN_SIGNER


def test_checkpoints_are_made_when_there_is_something_new(audit: Audit) -> None:
    """After so many rows, or so much time, and of every chain of the registry."""
    assert audit.book.checkpoint(_KEY, every_rows=5, every_s=3600.0) == []
    audit.write(1)
    [made] = audit.book.checkpoint(_KEY, every_rows=5, every_s=3600.0)
    assert (made.node, made.signer, made.sequence) == (_NODE, _NODE, 11)
    assert audit.book.checkpoint(_KEY) == []
    audit.write(1)
    assert [each.sequence for each in audit.book.checkpoint(_KEY, every_s=0.0)] == [12]
    assert audit.book.verify().chains[0].proven == 12


def test_an_export_proves_itself(audit: Audit) -> None:
    """No database is needed, and the database's own verdict comes out."""
    exported = list(audit.book.export())
    assert verify_export(exported) == audit.book.verify()
    assert verify_export(exported, keys=(public_pem(_KEY.public_key()),)).is_whole


@pytest.mark.parametrize(
    ("tamper", "flaw", "first"),
    [
        (lambda lines: lines[:5] + lines[6:], Flaw.MISSING, 4),
        (lambda lines: [line.replace(b'"ann"', b'"bob"') for line in lines], Flaw.CHANGED, 1),
        (lambda lines: [*lines[:3], lines[4], lines[3], *lines[5:]], Flaw.MISSING, 2),
        (lambda lines: lines[:-1], Flaw.DAMAGED, 0),
        (lambda lines: lines[:-2] + lines[-1:], Flaw.DAMAGED, 0),
        (lambda lines: [*lines, lines[4]], Flaw.DAMAGED, 0),
        (lambda lines: lines[:3] + lines[2:], Flaw.INSERTED, 1),
    ],
)
def test_a_tampered_export_is_told(
    audit: Audit, tamper: Callable[[list[bytes]], list[bytes]], flaw: Flaw, first: int
) -> None:
    """Lines removed, changed, exchanged, repeated, added, and cut off."""
    found = verify_export(tamper(list(audit.book.export()))).findings
    assert (flaw, first) in {(each.flaw, each.first) for each in found}


def test_a_part_is_exported_and_proves_itself(audit: Audit) -> None:
    """Rows between two moments, with the checkpoints among them."""
    moments = [row.at for row in reversed(audit.book.rows())]
    part = list(audit.book.export(since=moments[3], until=moments[8]))
    verdict = verify_export(part)
    assert verdict.is_whole
    [chain] = verdict.chains
    assert (chain.first, chain.last, chain.proven) == (4, 8, 6)
    assert not verify_export(part[:3] + part[4:]).is_whole
    later = datetime.datetime.now(datetime.UTC)
    assert verify_export(audit.book.export(since=later)).rows == 0


def test_what_is_no_export_is_refused() -> None:
    """With the line at fault."""
    for lines in ([], [b"{}"], [b'{"type":"end","rows":0,"checkpoints":0}']):
        with pytest.raises(Invalid, match="line 1"):
            verify_export(lines)


def test_the_audit_is_read_page_by_page(audit: Audit) -> None:
    """By kind, by tenant, between moments, and on from where a page ended."""
    first = audit.book.rows(limit=4)
    second = audit.book.rows(limit=4, before=first[-1].id)
    assert [row.id for row in (*first, *second)] == list(range(10, 2, -1))
    assert audit.book.rows(kind="model") == []
    assert len(audit.book.rows(kind="limit", tenant="acme", action="set")) == _ROWS
    assert audit.book.rows(since=first[1].at, until=first[0].at) == [first[1]]
    row = first[0]
    assert (row.key, row.source, row.before) == ("k1", "10.0.0.1", {"rate": 1.5, "zone": None})


def test_the_tables_of_the_proof_refuse_to_be_rewritten(audit: Audit) -> None:
    """Checkpoints and keys are as append-only as the rows."""
    for table, statement in itertools.product(
        ("audit", "audit_checkpoints", "audit_keys"),
        ("DELETE FROM {0}", "UPDATE {0} SET id = id", "INSERT INTO {0} SELECT * FROM {0}"),
    ):
        with pytest.raises(IntegrityError), audit.raw.begin() as connection:
            connection.execute(text(statement.format(table)))
    if audit.raw.dialect.name == "sqlite":
        for table in ("audit", "audit_checkpoints", "audit_keys"):
            with (
                pytest.raises(IntegrityError, match="never changed"),
                audit.raw.begin() as connection,
            ):
                connection.execute(text(f"REPLACE INTO {table} SELECT * FROM {table}"))


def test_tables_that_contradict_the_audit_are_told(database_url: str, tmp_path: Path) -> None:
    """A route's history or a version rewritten, added or removed beside an audit that is whole."""
    with Registry.open(database_url, LocalBlobStore(tmp_path / "home")) as registry:
        for number in (1, 2):
            registry.publish(make_bundle(tmp_path / f"b{number}", model=b"%d" % number), actor="a")
            registry.deploy("churn", number, actor="a", options={"lanes": number})
        registry.undeploy("churn", actor="a")
        assert registry.trail.verify().is_whole
        targets = """'[{"version": 1, "weight": 100.0}]'"""
        for statement, words in (
            (
                f"UPDATE route_changes SET targets = {targets} WHERE generation = 2",
                "change 2 .* oth",
            ),
            (
                f"UPDATE route_changes SET targets = {targets} WHERE generation = 3",
                "change 3 .* oth",
            ),
            ("UPDATE versions SET state = 'rejected' WHERE number = 2", "version 2 .* otherwise"),
            (
                "INSERT INTO route_changes (generation, model, action, changed, actor, reason) "
                "SELECT 9, model, action, changed, actor, reason FROM route_changes "
                "WHERE generation = 3",
                "change 9 .* not in the audit",
            ),
            ("DELETE FROM route_changes WHERE generation = 9", "change 2"),
            ("DELETE FROM route_changes WHERE generation = 3", "change 3 .* and gone"),
        ):
            _tamper(database_url, statement)
            found = registry.trail.verify().findings
            assert {each.flaw for each in found} == {Flaw.CONTRADICTED}
            assert any(re.search(words, each.message) for each in found), found


def _tamper(url: str, statement: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SET LOCAL session_replication_role = replica")
        else:
            for table in ("route_changes", "versions"):
                for event in ("update", "delete"):
                    connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {table}_no_{event}")
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_writers_at_once_make_one_chain(database_url: str) -> None:
    """Of one node in several threads, and of another beside it."""
    nodes = {name: Database.open(database_url, partial(str, name)) for name in ("a", "b")}

    def write(name: str) -> None:
        for _ in range(10):
            with nodes[name].write() as connection:
                write_audit(connection, action="set", actor="ann", kind="limit", subject=name)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, ["a", "b", "a", "b"]))
    verdict = AuditBook(nodes["a"]).verify()
    assert verdict.is_whole
    assert [(chain.node, chain.last) for chain in verdict.chains] == [("a", 20), ("b", 20)]
    for database in nodes.values():
        database.close()


def test_an_export_holds_nobody_up(audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many are taken slowly, and in however many pieces: each is whole up to its end."""
    monkeypatch.setattr("modelyard.registry.audit._CHUNK", 3)
    exports = [audit.book.export() for _ in range(20)]
    begun = [[next(export) for _ in range(4)] for export in exports]
    audit.write(1)
    with ThreadPoolExecutor(1) as pool:
        assert len(pool.submit(audit.book.rows).result(10)) == _ROWS + 1
    audit.book.checkpoint(_KEY)
    lines = [*begun[0], *exports[0]]
    assert sum(b'"type":"row"' in line for line in lines) == _ROWS
    assert verify_export(lines).is_whole
    assert verify_export(list(audit.book.export())) == audit.book.verify()
