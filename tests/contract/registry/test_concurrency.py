"""Many processes at one registry take turns."""

from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

from modelyard.core.errors import Conflict
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.testing.bundles import make_bundle
from modelyard.testing.processes import (
    deploy_together,
    open_together,
    publish_slowly,
    publish_together,
)


def _run_all(
    processes: BaseContext, target: Callable[..., None], *arguments: tuple[object, ...]
) -> None:
    barrier = processes.Barrier(len(arguments))
    running = [processes.Process(target=target, args=(barrier, *own)) for own in arguments]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=60)
    assert [process.exitcode for process in running] == [0] * len(running)


def test_processes_that_open_a_fresh_home_at_once_make_one_schema(
    database_url: str, processes: BaseContext, tmp_path: Path
) -> None:
    """All of them succeed, whoever migrates."""
    home = tmp_path / "home"
    _run_all(processes, open_together, *[(database_url, home)] * 4)
    with Registry.open(database_url, LocalBlobStore(home)) as registry:
        assert registry.publish(make_bundle(tmp_path / "b"), actor="ann").number == 1


def test_processes_publish_distinct_consecutive_numbers(
    database_url: str, processes: BaseContext, tmp_path: Path
) -> None:
    """Two publishers of one model lose nothing and share no number."""
    home = tmp_path / "home"
    bundles = [make_bundle(tmp_path / f"{n}", model=b"%d" % n) for n in range(20)]
    _run_all(
        processes,
        publish_together,
        (database_url, home, bundles[::2]),
        (database_url, home, bundles[1::2]),
    )
    with Registry.open(database_url, LocalBlobStore(home)) as registry:
        versions = registry.versions("churn")
        assert [version.number for version in versions] == list(range(1, 21))
        assert {version.digest for version in versions} == {bundle.digest for bundle in bundles}
        assert registry.check() == []


def test_deploys_of_processes_follow_each_other(
    database_url: str, processes: BaseContext, tmp_path: Path
) -> None:
    """Every change has its own generation, and rollbacks walk back through all of them."""
    home = tmp_path / "home"
    with Registry.open(database_url, LocalBlobStore(home)) as registry:
        for n in range(4):
            registry.publish(make_bundle(tmp_path / f"{n}", model=b"%d" % n), actor="ann")
        _run_all(
            processes,
            deploy_together,
            (database_url, home, [1, 2] * 5),
            (database_url, home, [3, 4] * 5),
        )
        numbers = [change.number for change in registry.route_history("churn")]
        generations = [change.generation for change in registry.route_history("churn")]
        assert generations == list(range(1, len(numbers) + 1))
        for expected in reversed(numbers[:-1]):
            assert registry.rollback("churn", actor="ann").number == expected
        with pytest.raises(Conflict):
            registry.rollback("churn", actor="ann")


def test_what_a_running_publish_has_put_is_not_collected(
    database_url: str, processes: BaseContext, tmp_path: Path
) -> None:
    """A repair gives up while another process publishes, and then finds nothing to take."""
    home = tmp_path / "home"
    bundle = make_bundle(tmp_path / "b")
    ready, go = processes.Event(), processes.Event()
    process = processes.Process(target=publish_slowly, args=(ready, go, database_url, home, bundle))
    process.start()
    with Registry.open(database_url, LocalBlobStore(home, patience_s=0.05)) as registry:
        assert ready.wait(30)
        with pytest.raises(Conflict) as caught:
            registry.repair()
        assert caught.value.code == "publish_in_flight"
        go.set()
        process.join(timeout=30)
        assert process.exitcode == 0
        assert registry.repair() == []
        registry.bundle(registry.versions("churn")[0]).verify()
