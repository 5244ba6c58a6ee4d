"""A full disk, a registry that is away: what is served goes on as if nothing had happened."""

import contextlib
import multiprocessing
import os
from pathlib import Path

import pytest

from modelyard.bundle.bundle import Bundle
from modelyard.core.errors import Exhausted
from modelyard.core.names import Reference
from modelyard.testing.bundles import make_bundle
from modelyard.testing.processes import publish_in_little_space
from tests.e2e.promises.conftest import OFFSETS
from tests.e2e.promises.stage import Load, Stage, loaded, offset, staged
from tests.outages import fill, locked, refusing, stopped

MODELS = {"sum": tuple(map(offset, OFFSETS.values()))}
CALLS_MEANWHILE = 1200
"""Some four seconds long."""
Away = contextlib.AbstractContextManager[None]


def assert_all_went_well(load: Load) -> None:
    for tally in load.stop():
        assert (tally.bad, tally.unconnected) == (0, 0), tally
        assert tally.answered["2"] > 0, tally


def large(folder: Path) -> Bundle:
    return make_bundle(folder, name="large", model=os.urandom(16 * 1024 * 1024))


def test_a_disk_that_fills_up_costs_no_call(small_disk: Path, tmp_path: Path) -> None:
    """A publish that finds no room fails as a whole; with room again, a deploy is followed."""
    with (
        staged(tmp_path, models=MODELS, home=small_disk / "home") as stage,
        loaded(stage.server, "sum", OFFSETS) as load,
    ):
        for number in range(3):
            with pytest.raises(Exhausted, match="disk"):
                stage.yard.registry.publish(large(tmp_path / f"{number}"), actor="test")
        ballast = small_disk / "ballast"
        fill(ballast)
        with pytest.raises(Exhausted):
            stage.publish("sum", offset(3000.0))
        load.more(200)
        ballast.unlink()
        stage.deploy("sum", 2)
        load.more(50)
        assert_all_went_well(load)
        assert [each.number for each in stage.yard.registry.versions("sum")] == [1, 2]


def test_a_publish_cut_short_costs_no_call(stage: Stage, load: Load, tmp_path: Path) -> None:
    """The same where the kernel ends another process's write half-way, as a quota does."""
    report = tmp_path / "report"
    home = stage.server.home
    publishing = multiprocessing.get_context("spawn").Process(
        target=publish_in_little_space,
        args=(2**20, f"sqlite:///{home / 'registry.db'}", home, large(tmp_path / "large"), report),
    )
    publishing.start()
    publishing.join()
    assert report.read_text() == "disk_full"
    stage.deploy("sum", 2)
    load.more(50)
    assert_all_went_well(load)


@pytest.mark.parametrize("how", ["silent", "refusing"])
def test_a_stopped_postgresql_costs_no_call(
    tmp_path: Path, postgres_server: str, postgres_url: str, how: str
) -> None:
    """It hangs, or it is gone: calls are answered, and a deploy made after it is followed."""
    away = {"silent": stopped, "refusing": refusing}[how](postgres_server, postgres_url)
    assert_outlives(tmp_path, away, database_url=postgres_url)


def test_a_locked_sqlite_costs_no_call(tmp_path: Path) -> None:
    """Somebody holds the database and its file cannot be opened: calls are answered."""
    assert_outlives(tmp_path, locked(tmp_path / "home" / "registry.db"))


def assert_outlives(folder: Path, away: Away, **settings: object) -> None:
    with (
        staged(folder, models=MODELS, settings=settings) as stage,
        loaded(stage.server, "sum", OFFSETS) as load,
    ):
        with away:
            load.http.more(CALLS_MEANWHILE)
        stage.yard.deploy(Reference("sum", version=2))
        stage.settle("sum")
        load.more(50)
        assert_all_went_well(load)
