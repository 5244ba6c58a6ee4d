"""A publish that is killed leaves the old state or the new one, wherever it dies."""

import signal
from collections.abc import Callable
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect

from modelyard.core.records import Problem
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.registry.tables import metadata
from modelyard.testing.bundles import make_bundle
from modelyard.testing.crash import open_until, publish_until

_LEFTOVERS = {Problem.UNFINISHED_FILE, Problem.UNREFERENCED_BLOB}


def _survives(
    processes: BaseContext, target: Callable[..., None], step: int, report: Path, *arguments: object
) -> bool:
    """Whether the target ended by itself, instead of dying before the step."""
    process = processes.Process(target=target, args=(step, *arguments, report))
    process.start()
    process.join(timeout=60)
    survived = report.exists()
    assert process.exitcode == (0 if survived else -signal.SIGKILL)
    return survived


def _state(registry: Registry) -> tuple[object, ...]:
    return registry.models(), registry.versions("churn"), registry.routes(), registry.audit()


@pytest.mark.slow
def test_an_opening_killed_anywhere_leaves_no_schema_or_all_of_it(
    database_url: str, processes: BaseContext, tmp_path: Path
) -> None:
    """A migration happens whole or not at all, and the next opening goes on from there."""
    home = tmp_path / "home"
    home.mkdir()
    engine = create_engine(database_url)
    step, survived, seen = 0, False, []
    while not survived:
        # Most steps are Alembic's reading: every third tells as much.
        step += 3
        report = tmp_path / f"report-{step}"
        survived = _survives(processes, open_until, step, report, database_url, home)
        tables = set(inspect(engine).get_table_names())
        assert tables in (set(), {*metadata.tables, "alembic_version"})
        seen.append(bool(tables))
    engine.dispose()
    assert seen == sorted(seen)
    assert seen.count(False) > 10
    assert seen[-1]
    with Registry.open(database_url, LocalBlobStore(home)) as registry:
        assert registry.publish(make_bundle(tmp_path / "b"), actor="ann").number == 1


@pytest.mark.slow
def test_a_publish_killed_at_any_step_leaves_the_old_state_or_the_new(
    database_url: str, processes: BaseContext, tmp_path: Path
) -> None:
    """At every step: one whole state, leftovers named and collected, and publishing goes on."""
    home = tmp_path / "home"
    seen = set()
    with Registry.open(database_url, LocalBlobStore(home)) as registry:
        first = registry.publish(make_bundle(tmp_path / "first"), actor="ann")
        registry.deploy("churn", actor="ann")
        number, step, survived = 1, 0, False
        while not survived:
            step += 1
            bundle = make_bundle(
                tmp_path / f"next-{step}", model=b"next" * step, files={"notes.md": b"%d" % step}
            )
            before = _state(registry)
            report = tmp_path / f"report-{step}"
            survived = _survives(processes, publish_until, step, report, database_url, home, bundle)

            published = [v for v in registry.versions("churn") if v.digest == bundle.digest]
            findings = registry.check()
            assert {finding.problem for finding in findings} <= _LEFTOVERS
            if published:
                registry.bundle(published[0]).verify()
                assert not findings
                assert len(registry.audit(limit=10_000)) == number + 2
            else:
                assert _state(registry) == before
            seen |= {finding.problem for finding in findings} | {bool(published)}
            # What it left behind, the check of the next step would find.
            assert registry.repair() == findings

            version = registry.publish(bundle, actor="ann")
            number += 1
            assert version.number == number
            registry.bundle(version).verify()
        assert int(report.read_text()) == step - 1
        # The steps were fine enough to meet every kind of ending.
        assert step > 60
        assert seen == {*_LEFTOVERS, True, False}
        assert registry.check() == []
        registry.bundle(first).verify()
        assert registry.routes()[0].number == 1
