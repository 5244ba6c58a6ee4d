"""Requests that may be sent again are done once, on databases of every kind."""

import os
import threading
from collections.abc import Iterator
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from sqlalchemy import update

from modelyard.core.errors import Conflict
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.registry.repeats import KEPT_FOR
from modelyard.registry.tables import repeats


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(database_url, LocalBlobStore(tmp_path / "home")) as opened:
        yield opened


def make_tenant(registry: Registry, name: str) -> bytes:
    return registry.tenants.create(name, actor="ann").name.encode()


def names(registry: Registry) -> set[str]:
    return {tenant.name for tenant in registry.tenants.list()} - {"default"}


def test_a_repeat_gets_the_first_answer(registry: Registry) -> None:
    """And does nothing; another request by the same mark is refused."""
    once = registry.repeats.once
    assert once("m", "r", lambda: make_tenant(registry, "a")) == (b"a", False)
    assert once("m", "r", lambda: make_tenant(registry, "b")) == (b"a", True)
    with pytest.raises(Conflict) as refused:
        once("m", "other", lambda: make_tenant(registry, "b"))
    assert refused.value.code == "idempotency_key_reused"
    assert once("n", "r", lambda: make_tenant(registry, "c")) == (b"c", False)
    assert names(registry) == {"a", "c"}


def test_all_of_a_request_happens_or_nothing(registry: Registry) -> None:
    """What failed in the end has not happened, its audit neither, and it may be tried again."""

    def fail() -> bytes:
        make_tenant(registry, "a")
        assert names(registry) == {"a"}
        raise Conflict("odd", "odd")

    before = len(registry.audit())
    with pytest.raises(Conflict):
        registry.repeats.once("m", "r", fail)
    assert names(registry) == set()
    assert len(registry.audit()) == before
    assert registry.repeats.once("m", "r", lambda: make_tenant(registry, "a")) == (b"a", False)


def test_of_many_at_once_one_is_done(registry: Registry, database_url: str, tmp_path: Path) -> None:
    """Also where they come to different servers."""
    answers = []

    def ask(number: int) -> None:
        with Registry.open(database_url, LocalBlobStore(tmp_path / "home")) as other:
            answers.append(other.repeats.once("m", "r", lambda: make_tenant(other, f"t{number}")))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({answer for answer, _ in answers}) == 1
    assert sorted(again for _, again in answers) == [False, True, True, True, True, True]
    assert len(names(registry)) == 1


def test_an_answer_is_kept_for_a_day(registry: Registry) -> None:
    """After that the request is a new one."""
    registry.repeats.once("m", "r", lambda: b"1")
    with registry._database.write() as connection:
        aged = repeats.c.at
        row = connection.execute(repeats.select()).one()
        connection.execute(update(repeats).values({aged: row.at - KEPT_FOR}))
    assert registry.repeats.once("m", "r", lambda: b"2") == (b"2", False)


def _die_within(url: str, home: Path) -> None:
    with Registry.open(url, LocalBlobStore(home)) as registry:

        def perform() -> bytes:
            make_tenant(registry, "a")
            os._exit(9)

        registry.repeats.once("m", "r", perform)


def test_killed_in_between_it_has_not_happened(
    registry: Registry, database_url: str, tmp_path: Path, processes: BaseContext
) -> None:
    """So it is done, once, when it is sent again."""
    process = processes.Process(target=_die_within, args=(database_url, tmp_path / "home"))  # type: ignore[attr-defined]
    process.start()
    process.join(60)
    assert process.exitcode == 9
    assert names(registry) == set()
    assert registry.repeats.once("m", "r", lambda: make_tenant(registry, "a")) == (b"a", False)
    assert names(registry) == {"a"}
