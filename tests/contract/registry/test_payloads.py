"""Captured payloads: encrypted, read under audit, gone when their time is up or they are erased."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from modelyard.bundle.keyring import Keyring, make_key
from modelyard.core.errors import Invalid, NotFound, Unavailable
from modelyard.core.identity import Actor
from modelyard.core.payloads import CapturedPayload
from modelyard.registry import payloads as book
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.payload_keys import FILE_NAME, PayloadKeys
from modelyard.registry.registry import Registry

_ANN = Actor(name="ann", key="k1", tenant="default", source="local")


class Home:
    """A home with a registry that keeps payloads."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        folder.mkdir(exist_ok=True)
        self.registry = self.open()

    def open(self, source: str = "") -> Registry:
        return Registry.open(
            self.url,
            LocalBlobStore(self.folder),
            payload_keys=PayloadKeys(self.folder, Keyring(source)),
        )

    def rows(self, statement: str) -> list[Any]:
        engine = create_engine(self.url)
        with engine.connect() as connection:
            found = list(connection.execute(text(statement)))
        engine.dispose()
        return found

    def files_with(self, planted: bytes) -> list[Path]:
        return [
            path
            for path in self.folder.rglob("*")
            if path.is_file() and planted in path.read_bytes()
        ]


@pytest.fixture
def home(database_url: str, tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home", database_url)
    yield home
    home.registry.close()


def _captured(
    subject: str = "", *, model: str = "churn", call: str = "c-1", **changes: Any
) -> CapturedPayload:
    values: dict[str, Any] = {
        "call": call,
        "model": model,
        "version": 3,
        "tenant": "acme",
        "key": "key-1",
        "outcome": "ok",
        "rows": 1,
        "at": time.time(),
        "expires_at": time.time() + 3600,
        "subject": subject,
        "document": json.dumps({"inputs": {"note": f"planted-value {subject}"}}).encode(),
    }
    return CapturedPayload(**values | changes)


def _audited(registry: Registry) -> list[tuple[str, str, Any]]:
    return [(row.action, row.subject, row.details) for row in registry.audit(limit=100)]


def test_what_was_captured_comes_back(home: Home) -> None:
    """Listed without its content, and shown with it."""
    payloads = home.registry.payloads
    assert payloads.write([_captured("bob"), _captured("", call="c-2", model="other")]) == 2
    newest, first = payloads.list(actor=_ANN)
    assert (first.model, first.version, first.tenant, first.key) == ("churn", 3, "acme", "key-1")
    assert (newest.call, newest.subject) == ("c-2", "")
    assert len(first.subject) == 64
    shown = payloads.show(first.id, actor=_ANN)
    assert shown.document == {"inputs": {"note": "planted-value bob"}}
    assert shown.record == first


def test_lists_are_narrowed_and_go_on(home: Home) -> None:
    """By model, tenant, subject and time, and page by page."""
    payloads = home.registry.payloads
    payloads.write([_captured("bob"), _captured("eve"), _captured("bob", model="other")])
    payloads.write([_captured("eve", tenant="globex", at=time.time() - 50)])
    count: Callable[..., int] = lambda **how: len(payloads.list(actor=_ANN, **how))  # noqa: E731
    assert count(model="churn") == 3
    assert count(tenant="globex") == 1
    assert count(subject="bob") == 2
    assert count(subject="eve", model="other") == 0
    everything = [each.id for each in payloads.list(actor=_ANN)]
    assert [each.id for each in payloads.list(actor=_ANN, before=everything[1])] == everything[2:]
    exported = list(payloads.export(actor=_ANN, subject="bob"))
    assert [each.record.model for each in exported] == ["churn", "other"]


def test_whoever_looks_is_audited(home: Home) -> None:
    """Which payload, by whom, and how many; never what it says or whom it is about."""
    payloads = home.registry.payloads
    payloads.write([_captured("bob"), _captured("eve")])
    listed = payloads.list(actor=_ANN, subject="bob")
    payloads.show(listed[0].id, actor=_ANN)
    list(payloads.export(actor=_ANN, model="churn", reason="a dispute"))
    assert _audited(home.registry) == [
        ("export_payloads", "", {"payloads": 2}),
        ("show_payload", str(listed[0].id), {"payloads": 1}),
        ("list_payloads", "", {"payloads": 1}),
    ]
    rows = home.registry.audit()
    assert {(row.actor, row.key, row.kind) for row in rows} == {("ann", "k1", "payload")}
    assert "bob" not in str(rows)


def test_nothing_captured_lies_in_the_clear(home: Home) -> None:
    """Neither the content nor the subject, in any table or any file of the home."""
    home.registry.payloads.write([_captured("bob-the-subject")])
    everything = str(home.rows("SELECT * FROM payloads")) + str(
        home.rows("SELECT * FROM payload_keys")
    )
    assert "planted" not in everything
    assert "bob-the-subject" not in everything
    assert home.files_with(b"planted-value") == []
    assert home.files_with(b"bob-the-subject") == []


def test_an_erasure_takes_all_about_a_subject_and_nothing_else(home: Home) -> None:
    """In every model, or in one; and says so in the audit without naming anybody."""
    payloads = home.registry.payloads
    models = ("churn", "other", "third")
    payloads.write([_captured(who, model=model) for who in ("bob", "eve") for model in models])
    assert payloads.erase("bob", model="third", actor=_ANN).payloads == 1
    erased = payloads.erase("bob", actor=_ANN, reason="asked to")
    assert erased.payloads == 2
    assert payloads.list(actor=_ANN, subject="bob") == []
    left = list(payloads.export(actor=_ANN))
    assert len(left) == 3
    assert all("eve" in each.document["inputs"]["note"] for each in left)
    row = next(each for each in home.registry.audit() if each.action == "erase_payloads")
    assert (row.subject, row.details, row.reason) == (erased.subject, {"payloads": 2}, "asked to")
    assert "bob" not in str(home.registry.audit())


def test_erasing_somebody_unknown_is_told_and_audited(home: Home) -> None:
    """Nothing is found, and it is written down all the same that somebody tried."""
    assert home.registry.payloads.erase("nobody", actor=_ANN).payloads == 0
    assert home.registry.audit()[0].action == "erase_payloads"


def test_an_erasure_of_nobody_is_refused(home: Home) -> None:
    """It would take all that is about nobody known."""
    payloads = home.registry.payloads
    payloads.write([_captured("")])
    with pytest.raises(Invalid):
        payloads.erase("", actor=_ANN)
    assert len(payloads.list(actor=_ANN)) == 1


def test_what_was_on_its_way_when_it_was_erased_is_not_kept(home: Home) -> None:
    """A worker may hold captured payloads for a moment; later ones are captured again."""
    payloads = home.registry.payloads
    on_its_way = [_captured("bob"), _captured("eve"), _captured("bob", model="other")]
    payloads.erase("bob", model="churn", actor=_ANN)
    assert payloads.write(on_its_way) == 2
    assert payloads.write([_captured("bob", at=time.time() + 1)]) == 1


def test_a_copy_of_the_database_made_before_cannot_be_decrypted_after(home: Home) -> None:
    """Every row is put back as it was: its key's master is gone from the home."""
    payloads = home.registry.payloads
    payloads.write([_captured("bob"), _captured("eve")])
    keys = home.rows("SELECT id, subject, model, opened, master, wrapped FROM payload_keys")
    kept = home.rows("SELECT * FROM payloads")
    payloads.erase("bob", actor=_ANN)
    engine = create_engine(home.url)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM payloads"))
        connection.execute(text("DELETE FROM payload_keys"))
        for table, rows in (("payload_keys", keys), ("payloads", kept)):
            for row in rows:
                names = list(row._mapping)
                columns = ", ".join(f'"{name}"' for name in names)
                places = ", ".join(f":{name}" for name in names)
                connection.execute(
                    text(f"INSERT INTO {table} ({columns}) VALUES ({places})"), dict(row._mapping)
                )
    engine.dispose()
    restored = payloads.list(actor=_ANN)
    assert len(restored) == 2
    for each in restored:
        with pytest.raises(Unavailable) as caught:
            payloads.show(each.id, actor=_ANN)
        assert caught.value.code == "payload_key_gone"


def test_the_home_forgets_the_master_that_an_erasure_exchanged(home: Home) -> None:
    """One master is left, another than before, in a file for this user alone."""
    payloads = home.registry.payloads
    payloads.write([_captured("bob"), _captured("eve")])
    before = (home.folder / FILE_NAME).read_bytes()
    payloads.erase("bob", actor=_ANN)
    path = home.folder / FILE_NAME
    stored = json.loads(path.read_bytes())
    assert len(stored["masters"]) == 1
    assert stored["masters"][0]["key"].encode() not in before
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_erasure_that_is_undone_loses_nothing(home: Home) -> None:
    """Within a longer transaction that fails, every payload can be read as before."""
    payloads = home.registry.payloads
    payloads.write([_captured("bob"), _captured("eve")])

    def fail_late() -> None:
        with home.registry._database.together():
            payloads.erase("bob", actor=_ANN)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_late()
    assert len(list(payloads.export(actor=_ANN))) == 2
    assert payloads.erase("bob", actor=_ANN).payloads == 1
    assert len(json.loads((home.folder / FILE_NAME).read_bytes())["masters"]) == 1
    assert len(list(payloads.export(actor=_ANN))) == 1


def test_what_is_over_is_gone(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not shown from that moment on, and swept with the keys that nothing needs any more."""
    payloads = home.registry.payloads
    past = {"at": time.time() - 100, "expires_at": time.time() - 1}
    payloads.write([_captured("bob", **past), _captured("eve", **past), _captured("eve")])
    (shown,) = payloads.list(actor=_ANN)
    with pytest.raises(NotFound):
        payloads.show(shown.id - 1, actor=_ANN)
    assert len(list(payloads.export(actor=_ANN))) == 1
    assert payloads.sweep() == 2
    assert payloads.sweep() == 0
    assert home.rows("SELECT count(*) FROM payloads") == [(1,)]
    assert home.rows("SELECT count(*) FROM payload_keys") == [(1,)]
    master = json.loads((home.folder / FILE_NAME).read_bytes())["masters"]
    monkeypatch.setattr(book, "DAY_S", 0.0)
    payloads.sweep()
    renewed = json.loads((home.folder / FILE_NAME).read_bytes())["masters"]
    assert len(renewed) == 1
    assert renewed != master
    assert payloads.show(shown.id, actor=_ANN).document["inputs"]["note"] == "planted-value eve"


def test_sqlite_keeps_no_byte_of_what_is_gone(tmp_path: Path) -> None:
    """Neither file nor log nor a free page holds the ciphertext or the wrapped key."""
    home = Home(tmp_path / "home", f"sqlite:///{tmp_path / 'home' / 'registry.db'}")
    payloads = home.registry.payloads
    large = json.dumps({"inputs": "x" * 20_000}).encode()
    past = {"expires_at": time.time() + 0.5}
    payloads.write([_captured("bob", document=large), _captured("eve", document=large, **past)])
    marks = [row[0][100:140] for row in home.rows("SELECT sealed FROM payloads")]
    marks += [row[0] for row in home.rows("SELECT wrapped FROM payload_keys")]
    assert all(home.files_with(mark) for mark in marks)
    payloads.erase("bob", actor=_ANN)
    deadline = time.monotonic() + 10
    while not payloads.sweep() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert [mark for mark in marks if home.files_with(mark)] == []
    home.registry.close()


def test_a_payload_that_was_changed_or_moved_is_not_shown(home: Home) -> None:
    """A bit changed, or put under another call's name: neither is given out."""
    payloads = home.registry.payloads
    payloads.write([_captured("bob"), _captured("bob", call="c-2")])
    engine = create_engine(home.url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE payloads SET call = 'c-3' WHERE call = 'c-2'"))
    engine.dispose()
    with pytest.raises(Unavailable, match="changed in the database"):
        payloads.show(2, actor=_ANN)
    assert payloads.show(1, actor=_ANN).record.call == "c-1"


def test_the_masters_are_wrapped_where_there_is_an_encryption_key(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the home's file is of no use without that key, and says which one it is."""
    monkeypatch.setenv("PAYLOAD_KEK", make_key())
    keyring = Keyring("env:PAYLOAD_KEK")
    home.registry.payloads.write([_captured("bob")])
    with home.open("env:PAYLOAD_KEK") as registry:
        assert registry.payloads.rewrap()
        assert registry.payloads.show(1, actor=_ANN).document
    stored = json.loads((home.folder / FILE_NAME).read_bytes())
    assert {stored["masters"][0]["by"], stored["subjects"]["by"]} == {keyring.current().id}
    with home.open() as registry, pytest.raises(Unavailable, match=keyring.current().id):
        registry.payloads.show(1, actor=_ANN)


def test_two_processes_make_one_file_of_keys(home: Home, tmp_path: Path) -> None:
    """Whoever is second finds what the first has made, and both read each other's payloads."""
    with home.open() as other:
        home.registry.payloads.write([_captured("bob")])
        other.payloads.write([_captured("bob", call="c-2")])
        home.registry.payloads.erase("eve", actor=_ANN)
        other.payloads.write([_captured("bob", call="c-3")])
        home.registry.payloads.erase("bob", model="other", actor=_ANN)
        assert len(list(other.payloads.export(actor=_ANN))) == 3
    assert home.rows("SELECT count(*) FROM payload_keys") == [(1,)]
