"""A spool in a folder of the test's own, and a book that remembers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.gateway.metering.spool import LEAST_SEGMENT_BYTES, Spool


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def spool(folder: Path) -> Iterator[Spool]:
    """With room taken, of the smallest segments there are; without threads."""
    spool = Spool(folder, bound_bytes=2**24, segment_bytes=LEAST_SEGMENT_BYTES)
    spool.upkeep()
    yield spool
    spool.stop()
    spool.close(is_copied=False)
