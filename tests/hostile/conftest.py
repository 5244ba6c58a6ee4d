"""Files that mean harm are opened in a process of their own, with little room and little time."""

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelyard.core.errors import ModelyardError
from modelyard.core.names import Reference
from modelyard.yard import Yard
from tests.hostile.actions import run_limited

_PATIENCE_S = 60


@dataclass(frozen=True)
class Ended:
    """How an attempt ended: by an error of ours with a code, by another, or well."""

    kind: str
    code: str
    message: str
    seconds: float


Attempt = Callable[..., Ended]


@pytest.fixture(scope="session")
def attempt() -> Attempt:
    """Does something in a process with limits; what kills that process or hangs fails the test."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["modelyard.packaging.package", "tests.hostile.actions", "xgboost", "lightgbm", "skops.io"]
    )

    def run(action: Callable[..., object], *arguments: Any) -> Ended:
        ours, theirs = context.Pipe()
        began = time.monotonic()
        process = context.Process(target=run_limited, args=(theirs, action, arguments))
        process.start()
        theirs.close()
        try:
            assert ours.poll(_PATIENCE_S), "it hangs"
            with contextlib.suppress(EOFError):
                return Ended(*ours.recv(), seconds=time.monotonic() - began)
            process.join()
            code = process.exitcode or 0
            pytest.fail(f"it ended the process: {signal.Signals(-code).name if code < 0 else code}")
        finally:
            process.kill()
            process.join()

    return run


@dataclass(frozen=True)
class Home:
    """A home with one good model, and what it looked like before."""

    folder: Path
    before: dict[str, bytes]

    def is_unchanged(self) -> bool:
        """Whether its registry says, and its blobs hold, what they did."""
        return _look(self.folder) == self.before


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home beside files that must not be touched."""
    folder = tmp_path / "inner" / "home"
    outside = tmp_path / "outside.txt"
    outside.write_text("not yours")
    with Yard.open(folder) as yard:
        yard.registry.routes()
    yield Home(folder, _look(folder))
    assert outside.read_text() == "not yours"
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["inner"]


def _look(home: Path) -> dict[str, bytes]:
    with Yard.open(home) as yard:
        told = repr((yard.registry.models(), yard.registry.routes(), yard.registry.audit()))
        with contextlib.suppress(ModelyardError):
            told += repr(yard.bundle(Reference("m")))
    blobs = {
        str(path.relative_to(home)): path.read_bytes()
        for path in sorted((home / "blobs").rglob("*"))
        if path.is_file() and not path.name.startswith(".")
    }
    return {"registry": told.encode(), **blobs}
