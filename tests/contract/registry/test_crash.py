"""A publish that is killed leaves the old state or the new one, wherever it dies."""

import signal
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest

from modelyard.bundle.bundle import Bundle
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.registry.values import Problem
from modelyard.testing.bundles import make_bundle
from modelyard.testing.crash import publish_until

_LEFTOVERS = {Problem.UNFINISHED_FILE, Problem.UNREFERENCED_BLOB}


def _die(
    processes: BaseContext, step: int, url: str, home: Path, bundle: Bundle, report: Path
) -> int | None:
    process = processes.Process(target=publish_until, args=(step, url, home, bundle, report))
    process.start()
    process.join(timeout=60)
    return process.exitcode


def _state(registry: Registry) -> tuple[object, ...]:
    return registry.models(), registry.versions("churn"), registry.routes(), registry.audit()


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
        number, step, died = 1, 0, True
        while died:
            step += 1
            bundle = make_bundle(
                tmp_path / f"next-{step}", model=b"next" * step, files={"notes.md": b"%d" % step}
            )
            before = _state(registry)
            report = tmp_path / f"report-{step}"
            exitcode = _die(processes, step, database_url, home, bundle, report)
            died = not report.exists()
            assert exitcode == (-signal.SIGKILL if died else 0)

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
            assert registry.repair() == findings
            assert registry.check() == []

            version = registry.publish(bundle, actor="ann")
            number += 1
            assert version.number == number
            registry.bundle(version).verify()
        assert int(report.read_text()) == step - 1
        # The steps were fine enough to meet every kind of ending.
        assert step > 60
        assert seen == {*_LEFTOVERS, True, False}
        registry.bundle(first).verify()
        assert registry.routes()[0].number == 1
