"""A registry that may not answer: what it said last is remembered over a restart."""

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from modelyard.core.config import Config
from modelyard.core.errors import Conflict, NotFound, Unavailable
from modelyard.core.policy import Policy
from modelyard.registry.registry import Registry
from modelyard.testing.bundles import make_bundle
from modelyard.wiring.registry import blob_store, open_registry
from modelyard.wiring.remembered import (
    FILE_NAME,
    RememberedRegistry,
    keep_snapshot,
    open_for_serving,
    read_snapshot,
)

NOWHERE = "postgresql+psycopg://nobody@/nothing?host=/tmp/modelyard-no-such-server"


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return Config(home=tmp_path / "home")


@pytest.fixture
def registry(config: Config, tmp_path: Path) -> Iterator[Registry]:
    """A registry with a key and a deployed model."""
    with open_registry(config) as registry:
        registry.publish(make_bundle(tmp_path / "b"), actor="ann")
        registry.deploy("churn", 1, actor="ann")
        registry.keys.create(name="ci", actor="ann")
        yield registry


def until(is_so: Callable[[], bool]) -> None:
    """Until it is so; the test's own time limit bounds it."""
    while not is_so():
        time.sleep(0.01)


def keep(config: Config, registry: Registry) -> None:
    """Let a server remember what its registry says."""
    remembered = RememberedRegistry(config, registry)
    remembered.start()
    rules = remembered.rules()
    assert rules is not None

    def is_kept() -> bool:
        snapshot = read_snapshot(config)
        return snapshot is not None and snapshot.rules == rules

    until(is_kept)
    remembered.stop()


@pytest.fixture
def down(config: Config) -> Iterator[Registry]:
    """The registry of the same home, of which nobody is there."""
    with open_registry(replace(config, database_url=NOWHERE), is_down=True) as registry:
        yield registry


def test_what_is_needed_to_serve_is_remembered(
    config: Config, registry: Registry, down: Registry
) -> None:
    """The rules, the routes and the bundles that they name, in a file for nobody else."""
    keep(config, registry)
    assert (config.home / FILE_NAME).stat().st_mode & 0o777 == 0o600
    remembered = RememberedRegistry(config, down)
    with pytest.raises(Unavailable):
        remembered.rules()
    recalled = remembered.remembered_rules()
    assert recalled is not None
    rules, read_at = recalled
    assert rules == registry.rules()
    assert 0 <= time.time() - read_at < 60
    assert remembered.generation() == registry.generation()
    assert list(remembered.routes()) == registry.routes()
    bundle = remembered.bundle("churn", 1)
    bundle.verify()
    assert bundle.digest == registry.versions("churn")[0].digest
    assert remembered.policy() == Policy()
    with pytest.raises(Unavailable):
        remembered.bundle("churn", 2)


def test_changes_are_remembered_soon(config: Config, registry: Registry) -> None:
    """Of the rules as of the routes, by whichever look comes first."""
    remembered = RememberedRegistry(config, registry)
    remembered.start()

    def kept(is_so: Callable[[int, int], bool]) -> bool:
        remembered.rules()
        snapshot = read_snapshot(config)
        return snapshot is not None and is_so(len(snapshot.rules.keys), len(snapshot.routes))

    until(lambda: kept(lambda keys, routes: (keys, routes) == (1, 1)))
    registry.keys.create(name="another", actor="ann")
    until(lambda: kept(lambda keys, routes: keys == 2))
    registry.undeploy("churn", actor="ann")
    until(lambda: kept(lambda keys, routes: routes == 0))
    remembered.stop()


def test_while_it_answers_the_registry_is_asked(config: Config, registry: Registry) -> None:
    """What lies in the file counts for nothing, and what is unknown is unknown."""
    keep(config, registry)
    registry.undeploy("churn", actor="ann")
    remembered = RememberedRegistry(config, registry)
    assert list(remembered.routes()) == []
    assert remembered.generation() == registry.generation()
    with pytest.raises(NotFound):
        remembered.bundle("churn", 7)


def test_the_later_reading_is_kept(config: Config, registry: Registry) -> None:
    """A worker that was slow does not put back what another has read since."""
    keep(config, registry)
    kept = read_snapshot(config)
    assert kept is not None
    keep_snapshot(config, replace(kept, read_at=kept.read_at - 1, generation=99))
    assert read_snapshot(config) == kept
    later = replace(kept, read_at=kept.read_at + 1, generation=99)
    keep_snapshot(config, later)
    assert read_snapshot(config) == later


def spoil(config: Config) -> None:
    file = config.home / FILE_NAME
    file.write_bytes(file.read_bytes().replace(b'"caller"', b'"admin"'))


def age(config: Config) -> None:
    kept = read_snapshot(config)
    assert kept is not None
    (config.home / FILE_NAME).unlink()
    keep_snapshot(config, replace(kept, read_at=time.time() - config.snapshot_s - 1))


def swap_node_key(config: Config) -> None:
    (config.home / "node.key").unlink()


@pytest.mark.parametrize("harm", [spoil, age, swap_node_key])
def test_what_cannot_be_trusted_is_not_used_and_told_loudly(
    config: Config,
    registry: Registry,
    down: Registry,
    caplog: pytest.LogCaptureFixture,
    harm: Callable[[Config], None],
) -> None:
    """Tampered with, too old, or sealed by another key: as if there was none."""
    keep(config, registry)
    harm(config)
    caplog.clear()
    assert read_snapshot(config) is None
    assert any(
        each.levelno == logging.ERROR and "is not used" in each.message for each in caplog.records
    )
    remembered = RememberedRegistry(config, down)
    assert remembered.remembered_rules() is None
    for ask in (remembered.generation, remembered.routes, remembered.policy):
        with pytest.raises(Unavailable):
            ask()
    with pytest.raises(Unavailable):
        open_for_serving(replace(config, database_url=NOWHERE))


def test_a_server_starts_without_its_registry_where_it_remembers(
    config: Config, registry: Registry
) -> None:
    """And with it, when there is nothing to remember, it does not."""
    elsewhere = replace(config, database_url=NOWHERE)
    with pytest.raises(Unavailable):
        open_for_serving(elsewhere)
    keep(config, registry)
    with open_for_serving(elsewhere) as opened, pytest.raises(Unavailable):
        opened.rules()


def test_nothing_is_kept_where_nothing_may_be(config: Config, registry: Registry) -> None:
    """With `snapshot_s` at 0 no file is written, and none is read."""
    keep(config, registry)
    without = replace(config, snapshot_s=0.0)
    assert RememberedRegistry(without, registry).remembered_rules() is None
    (config.home / FILE_NAME).unlink()
    remembered = RememberedRegistry(without, registry)
    remembered.start()
    remembered.rules()
    remembered.stop()
    assert not (config.home / FILE_NAME).exists()


def test_another_registry_that_answers_later_is_refused(
    config: Config, registry: Registry, tmp_path: Path
) -> None:
    """One that was not there at the start is asked whose it is when it first answers."""
    keep(config, registry)
    other = f"sqlite:///{tmp_path / 'other.db'}"
    with Registry.open(other, blob_store(config), is_down=True) as foreign:
        remembered = RememberedRegistry(config, foreign)
        with pytest.raises(Conflict, match="another registry"):
            remembered.rules()
