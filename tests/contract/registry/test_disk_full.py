"""A publish that meets a full disk changes nothing."""

from multiprocessing.context import BaseContext
from pathlib import Path

from modelyard.core.records import Problem
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.testing.bundles import make_bundle
from modelyard.testing.processes import publish_in_little_space


def test_a_full_disk_leaves_the_old_state(
    database_url: str, processes: BaseContext, tmp_path: Path
) -> None:
    """However much fits: `disk_full` and the old state, no half file, or the new state."""
    home = tmp_path / "home"
    outcomes = []
    with Registry.open(database_url, LocalBlobStore(home)) as registry:
        registry.publish(make_bundle(tmp_path / "first"), actor="ann")
        # The largest blob has 20 kB; what fits it may still be too little for SQLite's log.
        for limit_bytes in (*range(0, 120_000, 10_000), 10_000_000):
            report = tmp_path / f"report-{limit_bytes}"
            bundle = make_bundle(
                tmp_path / f"{limit_bytes}", model=bytes(20_000) + b"%d" % limit_bytes
            )
            before = registry.versions("churn")
            arguments = (limit_bytes, database_url, home, bundle, report)
            process = processes.Process(target=publish_in_little_space, args=arguments)
            process.start()
            process.join(timeout=60)
            outcome = report.read_text()
            outcomes.append(outcome)
            if outcome == "published":
                assert len(registry.versions("churn")) == len(before) + 1
                registry.bundle(registry.versions("churn")[-1]).verify()
            else:
                assert registry.versions("churn") == before
            assert {finding.problem for finding in registry.check()} <= {Problem.UNREFERENCED_BLOB}
            registry.repair()
    assert set(outcomes) == {"disk_full", "published"}
    assert outcomes[:3] == ["disk_full"] * 3
    assert outcomes[-1] == "published"
    if database_url.startswith("sqlite"):
        assert outcomes[3:].count("disk_full") > 3
