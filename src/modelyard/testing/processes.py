"""What tests let other processes do to a registry: targets for `multiprocessing`."""

import resource
from collections.abc import Sequence
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

from modelyard.bundle.bundle import Bundle
from modelyard.core.errors import ModelyardError
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry


def open_together(barrier: Barrier, url: str, root: Path) -> None:
    """Open at the moment that others do, and look."""
    barrier.wait(30)
    with Registry.open(url, LocalBlobStore(root)) as registry:
        registry.models()


def publish_together(barrier: Barrier, url: str, root: Path, bundles: Sequence[Bundle]) -> None:
    """Publish while others do."""
    with Registry.open(url, LocalBlobStore(root)) as registry:
        barrier.wait(30)
        for bundle in bundles:
            registry.publish(bundle, actor="somebody")


def deploy_together(barrier: Barrier, url: str, root: Path, numbers: Sequence[int]) -> None:
    """Deploy one version after the other while others do."""
    with Registry.open(url, LocalBlobStore(root)) as registry:
        barrier.wait(30)
        for number in numbers:
            registry.deploy("churn", number, actor="somebody")


def make_first_key_together(barrier: Barrier, url: str, root: Path) -> None:
    """Open a registry and make its first administrator's key at the moment that others do."""
    barrier.wait(30)
    with Registry.open(url, LocalBlobStore(root)) as registry:
        registry.keys.create_first(actor="serve")


def publish_slowly(ready: Event, go: Event, url: str, root: Path, bundle: Bundle) -> None:
    """Put the bundle's files, say so, and publish when told to."""
    blobs = LocalBlobStore(root)
    with Registry.open(url, blobs) as registry, blobs.hold():
        for file in bundle.files.values():
            blobs.put(file)
        ready.set()
        go.wait(30)
        registry.publish(bundle, actor="slow")


def publish_in_little_space(
    limit_bytes: int, url: str, root: Path, bundle: Bundle, report: Path
) -> None:
    """Publish where no file can grow past the limit, and write how that ended.

    The kernel then fails a write half-way, as it does when a disk fills up.
    """
    with Registry.open(url, LocalBlobStore(root)) as registry:
        registry.models()
        _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, hard))
        try:
            registry.publish(bundle, actor="crowded")
            outcome = "published"
        except ModelyardError as error:
            outcome = error.code
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    report.write_text(outcome)
