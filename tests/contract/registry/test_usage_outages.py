"""A database that is away and a disk that is full: calls go on, and their usage is not lost."""

import datetime
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelyard.gateway.metering import copier as copiers
from modelyard.gateway.metering.metering import Metering
from modelyard.registry.database import Database
from modelyard.registry.usage import UsageBook
from modelyard.testing.metering import make_call, make_permit
from tests.outages import fill, refusing, stopped

PATIENCE_S = 20.0


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies are tried often."""
    monkeypatch.setattr(copiers, "COPY_S", 0.02)
    monkeypatch.setattr(copiers, "_LONGEST_S", 0.1)


def until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize("how", ["silent", "refusing"])
@pytest.mark.usefixtures("quick")
def test_usage_waits_for_a_database_that_is_away(
    tmp_path: Path,
    postgres_server: str,
    postgres_url: str,
    how: str,
) -> None:
    """It hangs, or it is gone: events are recorded as ever, and all arrive once when it is back."""
    database = Database.open(postgres_url)
    book = UsageBook(database)
    metering = Metering(tmp_path / "spool", book, bound_bytes=2**26, segment_bytes=2**16)
    metering.start()
    permit = make_permit()
    ids: list[str] = []

    def record(count: int) -> None:
        for _ in range(count):
            call = make_call(permit)
            metering.meter.record(call)
            ids.append(call.id)

    record(100)
    until(lambda: metering.state().waiting == 0)
    away = {"silent": stopped, "refusing": refusing}[how](postgres_server, postgres_url)
    with away:
        record(5000)
        if how == "refusing":
            until(lambda: metering.state().trouble != "")
        state = metering.state()
        assert (state.waiting, state.unrecorded) == (5000, 0)
    record(100)
    until(lambda: metering.state().waiting == 0)
    assert metering.state().trouble == ""
    record(100)
    metering.stop()
    assert sorted(event.call for event in book.events()) == sorted(ids)
    assert book.reconcile(tmp_path / "spool").differences == ()
    assert list((tmp_path / "spool").iterdir()) == []
    database.close()


@pytest.mark.usefixtures("quick")
def test_a_full_disk_costs_usage_but_no_call(small_disk: Path, tmp_path: Path) -> None:
    """What found no room is counted; where there is room again, events are recorded again."""
    database = Database.open(f"sqlite:///{tmp_path / 'registry.db'}")
    book = UsageBook(database)
    folder = small_disk / "spool"
    # The database is away too: nothing that was copied makes room.
    metering = Metering(folder, _Away(), bound_bytes=2**26, segment_bytes=2**16)
    metering.start()
    permits = [make_permit(key="k1"), make_permit(key="k2")]
    fill(small_disk / "ballast")
    for number in range(10_000):
        metering.meter.record(make_call(permits[number % 2]))
    state = metering.state()
    assert 0 < state.unrecorded < 10_000
    assert "No space left" in state.trouble
    assert state.waiting + state.unrecorded == 10_000
    (small_disk / "ballast").unlink()
    until(lambda: _records_again(metering))
    state = metering.state()
    metering.stop()

    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    copiers.Copier(elsewhere, book).copy_orphans()
    report = book.report(("key",))
    assert sum(line.calls for line in report.lines) == state.waiting
    assert sum(each.calls for each in report.unrecorded) == state.unrecorded
    assert {each.key for each in report.unrecorded} == {"k1", "k2"}
    now = datetime.datetime.now(datetime.UTC)
    assert book.report(until=now - datetime.timedelta(hours=2)).unrecorded == ()
    database.close()


def test_a_home_without_room_for_anything_is_told(small_disk: Path) -> None:
    """Not even the count finds room: it is kept in memory, and shown as long as that lives."""
    (small_disk / "spool").mkdir()
    fill(small_disk / "ballast")
    metering = Metering(small_disk / "spool", _Away(), bound_bytes=2**26)
    metering.start()
    metering.meter.record(make_call(make_permit()))
    assert metering.state().unrecorded == 1
    assert metering.state().trouble
    metering.stop()


def test_a_database_that_hangs_holds_up_no_end(tmp_path: Path) -> None:
    """A process ends in its time, and leaves its spool to others."""
    release = threading.Event()

    class Hanging(_Away):
        def copy(self, batch: object) -> int:
            release.wait(PATIENCE_S)
            raise ConnectionError("gone")

    metering = Metering(tmp_path / "spool", Hanging(), bound_bytes=2**26)
    metering.start()
    metering.meter.record(make_call(make_permit()))
    began = time.monotonic()
    metering.stop(grace_s=0.1)
    assert time.monotonic() - began < PATIENCE_S / 2
    release.set()
    until(lambda: not any(each.name == "modelyard usage" for each in threading.enumerate()))
    assert len(list((tmp_path / "spool").glob("*.segment"))) == 1


class _Away:
    """A database that does not answer."""

    def position(self, spool: str) -> int:
        raise ConnectionError("away")

    def copy(self, batch: object) -> int:
        raise ConnectionError("away")

    def miss(self, spool: str, counts: object) -> None:
        raise ConnectionError("away")

    def end(self, spool: str) -> None:
        raise ConnectionError("away")

    def purge(self, before: datetime.datetime) -> int:
        raise ConnectionError("away")


def _records_again(metering: Metering) -> bool:
    waiting = metering.state().waiting
    metering.meter.record(make_call(make_permit()))
    return metering.state().waiting == waiting + 1


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert not [each for each in threading.enumerate() if each.name.startswith("modelyard")]
