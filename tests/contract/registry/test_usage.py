"""Usage on both databases: every event once, whatever dies, and sums that can be proved."""

import datetime
import multiprocessing
import shutil
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, insert, text
from sqlalchemy.exc import IntegrityError

from modelyard.core.call import Outcome
from modelyard.core.errors import Invalid, NotFound
from modelyard.core.rules import Rules
from modelyard.core.usage import Tariff, Unit
from modelyard.gateway.metering.copier import Copier
from modelyard.gateway.metering.meter import SpooledMeter
from modelyard.gateway.metering.reading import hold_orphans, own_batches, read_segment
from modelyard.gateway.metering.spool import LEAST_SEGMENT_BYTES, Spool
from modelyard.registry.database import Database
from modelyard.registry.tables import usage_hours
from modelyard.registry.tariffs import TariffBook, parse_price
from modelyard.registry.usage import UsageBook
from modelyard.testing.metering import (
    Version,
    make_call,
    make_permit,
    record_and_tell,
    told_ids,
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    yield database
    database.close()


@pytest.fixture
def book(database: Database) -> UsageBook:
    return UsageBook(database)


@pytest.fixture
def engine(database: Database, database_url: str) -> Iterator[Engine]:
    """The same database, for whoever goes past the house."""
    engine = create_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    spool = Spool(folder, bound_bytes=2**26, segment_bytes=LEAST_SEGMENT_BYTES)
    spool.upkeep()
    yield spool
    spool.stop()
    spool.close(is_copied=False)


def leave(spool: Spool) -> None:
    """As a process that dies: the files stay, and the lock goes."""
    spool.stop()
    spool.close(is_copied=False)


def recorded(spool: Spool, count: int, *, tariffs: tuple[Tariff, ...] = ()) -> list[str]:
    """The ids of calls of all outcomes that were recorded."""
    meter = SpooledMeter(spool)
    meter.on_rules(Rules(tariffs=tariffs))
    permits = [make_permit(tenant=f"t{number}") for number in range(2)]
    calls = [
        make_call(
            permits[number % 2],
            Outcome.OK if number % 10 else list(Outcome)[number // 10 % 6],
            rows=number % 5,
            served=Version(version=number % 3 + 1),
        )
        for number in range(count)
    ]
    for call in calls:
        meter.record(call)
    return [call.id for call in calls]


def ids_in(book: UsageBook) -> list[str]:
    return sorted(event.call for event in book.events())


def test_every_event_arrives_once(book: UsageBook, spool: Spool, folder: Path) -> None:
    """However often it is copied; segments that are full and copied are deleted."""
    copier = Copier(folder, book, spool)
    ids = recorded(spool, 1000)
    assert copier.copy_own() == 1000
    assert copier.copy_own() == 0
    ids += recorded(spool, 10)
    assert Copier(folder, book, spool).copy_own() == 10
    assert ids_in(book) == sorted(ids)
    assert len(spool.segments) == 1
    found = book.reconcile(folder)
    assert (found.copied, found.waiting, found.differences) == (1010, 0, ())


def test_sums_are_kept_by_what_is_asked_for(book: UsageBook, spool: Spool, folder: Path) -> None:
    """Calls, rows, amounts and costs, by tenant, version, outcome, hour; only good calls cost."""
    tariff = Tariff(models="*", unit=Unit.ROW, nano=500_000_000)
    recorded(spool, 600, tariffs=(tariff,))
    Copier(folder, book, spool).copy_own()
    (total,) = book.report().lines
    events = list(book.events())
    assert (total.calls, total.unit, total.currency) == (600, Unit.ROW, "EUR")
    assert total.ok == sum(event.outcome is Outcome.OK for event in events) == 550
    assert total.rows == sum(event.rows for event in events)
    assert total.amount == sum(event.amount for event in events)
    assert total.cost == total.amount * 500_000_000
    by_tenant = book.report(("tenant",)).lines
    assert [(line.tenant, line.calls) for line in by_tenant] == [("t0", 300), ("t1", 300)]
    by_outcome = book.report(("outcome", "version")).lines
    assert {line.outcome for line in by_outcome} == set(Outcome)
    assert all(line.cost == 0 for line in by_outcome if line.outcome is not Outcome.OK)
    assert sum(line.calls for line in by_outcome) == 600
    (line,) = book.report(("version",), tenant="t1", model="churn", key="k1").lines[:1]
    assert (line.version, line.calls) == (1, 100)
    assert book.report(model="other").lines == ()
    with pytest.raises(Invalid, match="use some of tenant"):
        book.report(("planet",))


def test_a_time_is_counted_from_its_hour_on(database: Database, book: UsageBook) -> None:
    """Hours within days, and days as a whole, whichever of the sums they come from."""
    start = datetime.datetime(2026, 5, 3, 22, tzinfo=datetime.UTC)
    same = {
        **{"tenant": "t", "key": "k", "model": "m", "version": 1, "unit": "request"},
        **{"currency": "EUR", "known": "counted", "outcome": "ok"},
        **{"rows": 1, "amount": 1, "cost": 1, "took_us": 1},
    }
    hours = [start + datetime.timedelta(hours=number) for number in range(4)]
    with database.write() as connection:
        connection.execute(
            insert(usage_hours),
            [{**same, "start": hour, "calls": 10**n} for n, hour in enumerate(hours)],
        )
    lines = book.report(("day",), since=hours[1], until=hours[3]).lines
    assert [(line.day, line.calls) for line in lines] == [
        (start.replace(hour=0), 10),
        (start.replace(day=4, hour=0), 100),
    ]
    lines = book.report(("hour",), since=hours[2] + datetime.timedelta(minutes=59)).lines
    assert [(line.hour, line.calls) for line in lines] == [(hours[2], 100), (hours[3], 1000)]


def test_a_call_is_found_by_its_id(book: UsageBook, spool: Spool, folder: Path) -> None:
    """One event, or none where nobody has heard of it; and nothing that is no id."""
    ids = recorded(spool, 300)
    Copier(folder, book, spool).copy_own()
    assert [event.call for event in book.events(call=ids[123])] == [ids[123]]
    for unknown in ("", "-", f"{spool.prefix}-ffffffff", "nobody-1", "x-y"):
        assert list(book.events(call=unknown)) == []
    assert len(list(book.events(tenant="t1"))) == 150
    last = max(event.arrived for event in book.events())
    assert len(list(book.events(since=last))) == 1
    assert len(list(book.events(until=last))) == 299


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_process_has_lost_no_answer(
    book: UsageBook, folder: Path, processes: BaseContext, seed: int
) -> None:
    """Every call that somebody had the answer of is found exactly once, wherever it was killed."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = processes.Process(
        target=record_and_tell, args=(folder, LEAST_SEGMENT_BYTES * 3, theirs)
    )
    process.start()
    theirs.close()
    heard: list[str] = []
    listener = threading.Thread(target=lambda: heard.extend(told_ids(ours)))
    listener.start()
    process.join(0.25 + seed * 0.07)
    assert process.pid is not None
    process.kill()
    process.join()
    listener.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(heard) > 100
    copied = Copier(folder, book).copy_orphans()
    kept = ids_in(book)
    assert len(kept) == len(set(kept)) == copied
    assert set(heard) <= set(kept)
    # The event of a call may be there before its answer has left.
    assert len(kept) - len(heard) <= 1
    assert book.reconcile(folder).differences == ()
    assert list(folder.iterdir()) == []


def test_two_who_copy_one_spool_copy_it_once(book: UsageBook, spool: Spool, folder: Path) -> None:
    """One of them holds it; and one who read it before the other has copied it changes nothing."""
    ids = recorded(spool, 2000)
    slow = list(own_batches(spool, 0))
    leave(spool)
    copied: list[int] = []
    threads = [
        threading.Thread(target=lambda: copied.append(Copier(folder, book).copy_orphans()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(copied) == 2000
    for batch in slow:
        assert book.copy(batch) == 2000
    assert ids_in(book) == sorted(ids)


def test_a_copy_that_failed_midway_is_taken_up(book: UsageBook, spool: Spool, folder: Path) -> None:
    """Also where it was committed and its copier never heard of that."""
    ids = recorded(spool, 2000)

    class Lost(UsageBook):
        left = 2

        def copy(self, batch):  # type: ignore[no-untyped-def]
            self.left -= 1
            if self.left < 0:
                raise ConnectionError("gone before it began")
            after = super().copy(batch)
            if self.left == 0:
                raise ConnectionError("gone before the answer")
            return after

    copier = Copier(folder, Lost(book._database), spool)
    with pytest.raises(ConnectionError, match="answer"):
        copier.copy_own()
    with pytest.raises(ConnectionError, match="began"):
        copier.copy_own()
    leave(spool)
    Copier(folder, book).copy_orphans()
    assert ids_in(book) == sorted(ids)
    assert book.report().lines[0].calls == 2000


def test_damage_costs_no_other_event(book: UsageBook, spool: Spool, folder: Path) -> None:
    """A changed byte and a lost file are told and counted; all else is copied."""
    ids = recorded(spool, 1500)
    first, second, third = spool.segments[:3]
    second.memory[4096 + 48 * 7 + 3] ^= 1
    lost = third.count
    leave(spool)
    third.path.unlink()
    Copier(folder, book).copy_orphans()
    kept = ids_in(book)
    gone = set(ids) - set(kept)
    assert len(kept) == len(set(kept))
    assert len(gone) == 1 + lost
    assert book.report().damaged == len(gone)
    found = book.reconcile(folder)
    assert (found.damaged, found.differences) == (len(gone), ())
    assert first.count > 200


def test_a_spool_with_an_unreadable_head_stays(
    book: UsageBook, spool: Spool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is in it may be told by somebody who looks; the others are copied."""
    recorded(spool, 1500)
    count = spool.segments[0].count
    spool.segments[0].memory[:4096] = bytes(4096)
    name = spool.segments[0].path.name
    leave(spool)
    Copier(folder, book).copy_orphans()
    assert len(ids_in(book)) == 1500 - count
    assert f"the head of {name} is damaged" in caplog.text
    assert [path.name for path in folder.iterdir()] == [name.replace("segment", "damaged")]
    found = book.reconcile(folder)
    assert found.damaged == count
    (difference,) = found.differences
    assert "holds events that nobody can read" in difference


def test_reconcile_says_what_was_changed(
    book: UsageBook, spool: Spool, folder: Path, engine: Engine
) -> None:
    """A sum, a batch, or a file that is not as it was: each is told with its place."""
    recorded(spool, 150)
    Copier(folder, book, spool).copy_own()
    recorded(spool, 5)
    found = book.reconcile(folder)
    assert (found.compared, found.waiting, found.differences) == (150, 5, ())

    with engine.begin() as connection:
        connection.execute(text("UPDATE usage_hours SET calls = calls + 1 WHERE tenant = 't0'"))
        connection.execute(text("UPDATE usage_spools SET events = events - 1"))
    spool.segments[0].memory[4096 + 48 * 3] ^= 1
    told = "\n".join(book.reconcile(folder).differences)
    assert "kept is Sums(calls=" in told
    assert "its batches say events 150, not 149" in told
    assert "1 copied events" in told


def test_kept_events_are_never_changed(
    book: UsageBook, spool: Spool, folder: Path, engine: Engine
) -> None:
    """The database refuses it, whoever asks."""
    recorded(spool, 10)
    Copier(folder, book, spool).copy_own()
    statements = ["UPDATE usage_batches SET events = 3"]
    if engine.dialect.name == "sqlite":
        statements.append("REPLACE INTO usage_batches SELECT * FROM usage_batches")
    else:
        statements.append("TRUNCATE usage_batches")
    for statement in statements:
        with (
            pytest.raises(IntegrityError, match="are never changed"),
            engine.begin() as connection,
        ):
            connection.execute(text(statement))


def test_old_events_go_and_their_sums_stay(book: UsageBook, spool: Spool, folder: Path) -> None:
    """The proof goes as far back as events are kept, and none is missing in between."""
    copier = Copier(folder, book, spool)
    for _ in range(3):
        recorded(spool, 50)
        copier.copy_own()
    until = max(event.arrived for event in book.events()) + datetime.timedelta(seconds=1)
    before = book.report(("tenant", "outcome")).lines
    assert book.purge(until - datetime.timedelta(days=1)) == 0
    assert book.purge(until) == 150
    assert book.purge(until) == 0
    assert list(book.events()) == []
    recorded(spool, 20)
    copier.copy_own()
    assert book.purge(until + datetime.timedelta(days=1)) == 20
    found = book.reconcile(folder)
    assert (found.batches, found.copied, found.differences) == (1, 170, ())
    assert sum(line.calls for line in before) == 150


def test_unrecorded_calls_are_told(book: UsageBook, folder: Path) -> None:
    """By whom, as often as they are copied; also of a process that has died."""
    spool = Spool(folder, bound_bytes=LEAST_SEGMENT_BYTES * 12, segment_bytes=1)
    spool.upkeep()
    recorded(spool, 3000)
    copier = Copier(folder, book, spool)
    copier.copy_own()
    copier.copy_own()
    missing = sum(each.calls for each in book.report().unrecorded)
    assert missing > 0
    recorded(spool, 10)
    leave(spool)
    Copier(folder, book).copy_orphans()
    report = book.report()
    missing = sum(each.calls for each in report.unrecorded)
    assert {each.tenant for each in report.unrecorded} == {"t0", "t1"}
    assert sum(line.calls for line in report.lines) + missing == 3010
    assert sum(each.calls for each in book.report(tenant="t1").unrecorded) < missing
    found = book.reconcile(folder)
    assert (found.unrecorded, found.differences) == (missing, ())


def test_a_copied_file_that_comes_back_is_copied_no_more(
    book: UsageBook, spool: Spool, folder: Path, tmp_path: Path
) -> None:
    """As when a disk is put back to an older state."""
    ids = recorded(spool, 500)
    leave(spool)
    shutil.copytree(folder, tmp_path / "older")
    Copier(folder, book).copy_orphans()
    assert Copier(tmp_path / "older", book).copy_orphans() == 0
    assert ids_in(book) == sorted(ids)


def test_prices_are_set_and_taken_away(database: Database) -> None:
    """Exactly as they were written; each change is audited, and followed by servers."""
    book = TariffBook(database)
    tariff = book.set("churn*", unit="row", price="0.0004", currency="CHF", actor="ann")
    assert tariff == Tariff(models="churn*", unit=Unit.ROW, nano=400_000, currency="CHF")
    book.set("churn*", price="12.5", actor="ann", reason="dearer")
    book.set("churn*", price="12.50", actor="ann")
    assert book.list() == [Tariff(models="churn*", nano=12_500_000_000)]
    book.remove("churn*", actor="bob")
    assert book.list() == []
    with pytest.raises(NotFound):
        book.remove("churn*", actor="bob")
    with database.read() as connection:
        rows = connection.execute(
            text("SELECT action, actor FROM audit WHERE kind = 'tariff' ORDER BY id")
        ).all()
    assert [tuple(row) for row in rows] == [
        ("set_tariff", "ann"),
        ("set_tariff", "ann"),
        ("remove_tariff", "bob"),
    ]


@pytest.mark.parametrize(
    "price", ["", "-1", "1e3", "0.0000000001", "1000000.1", "NaN", "1,5", "٣", "9" * 99]
)
def test_what_is_no_price_is_refused(price: str) -> None:
    """Decimal texts of at most nine places, and no others."""
    with pytest.raises(Invalid) as caught:
        parse_price(price)
    assert caught.value.field == "price"


def test_an_orphan_is_read_whole(spool: Spool, folder: Path) -> None:
    """Its segments follow each other without a gap, in the order of their events."""
    recorded(spool, 1500)
    leave(spool)
    with hold_orphans(folder) as (orphan,):
        found = [each for path in orphan.files if (each := read_segment(path)) is not None]
    ends = [each.head.first + each.places for each in found]
    assert [each.head.first for each in found] == [0, *ends[:-1]]
    assert ends[-1] == 1500


def test_readers_that_stop_reading_hold_nobody_up(
    database: Database, book: UsageBook, spool: Spool, folder: Path
) -> None:
    """However many take the first event and no more: others are answered at once."""
    recorded(spool, 20)
    Copier(folder, book, spool).copy_own()
    readers = [book.events() for _ in range(20)]
    assert all(next(reader) for reader in readers)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(book.position, spool.id).result(10) == 20
    assert len(list(readers[0])) == 19
