"""A stage on which two versions of a model stand, under traffic that knows both."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import pytest

from tests.e2e.promises.stage import Load, Stage, loaded, offset, staged

OFFSETS: Final[Mapping[int, float]] = {1: 1000.0, 2: 2000.0}


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Two workers that serve "sum", whose two versions answer differently."""
    made = tuple(offset(by) for by in OFFSETS.values())
    with staged(tmp_path, models={"sum": made}) as stage:
        yield stage


@pytest.fixture
def load(stage: Stage) -> Iterator[Load]:
    """Steady traffic over HTTP and gRPC, which knows the answers of both versions of "sum"."""
    with loaded(stage.server, "sum", OFFSETS) as load:
        yield load
