"""Where a model in memory came from: commit, parameters, and the rows that it was shown."""

import hashlib
import math
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelyard.bundle.manifest import Dataset, Lineage, SourceCommit

if TYPE_CHECKING:
    import pandas as pd

_PATIENCE_S = 10


def provenance(model: Any, frame: "pd.DataFrame") -> Lineage:
    """What can be known of an estimator that somebody fitted: nothing is guessed.

    Parameters and seed are its own; the data is the sample, of which the fingerprint is over
    column names, types and values; the commit is that of the working directory.
    """
    parameters = _parameters(model)
    seed = parameters.get("random_state")
    return Lineage(
        parameters=parameters,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        data=(_fingerprint(frame),),
        source=source_commit(Path.cwd()),
    )


def _parameters(model: Any) -> dict[str, Any]:
    """The parameters that are plain values, those of a pipeline's steps by their dotted names."""
    if not hasattr(model, "get_params"):
        return {}
    return {
        name: value
        for name, value in sorted(model.get_params(deep=True).items())
        if value is None
        or isinstance(value, bool | int | str)
        or (isinstance(value, float) and math.isfinite(value))
    }


def _fingerprint(frame: "pd.DataFrame") -> Dataset:
    import pandas as pd

    digest = hashlib.sha256()
    for name in frame.columns:
        digest.update(f"{name}\0{frame[name].dtype}\0".encode())
    digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    rows, columns = frame.shape
    return Dataset(
        name="sample", source="memory", sha256=digest.hexdigest(), rows=rows, columns=columns
    )


def source_commit(folder: Path) -> SourceCommit | None:
    """The commit that a folder is checked out at, and whether its checkout was changed since.

    None outside a checkout, and where git is missing, slow or refuses.
    """
    git = shutil.which("git")
    if git is None:
        return None
    commit = _run(git, folder, "rev-parse", "--verify", "HEAD")
    if commit is None:
        return None
    changes = _run(git, folder, "status", "--porcelain")
    return None if changes is None else SourceCommit(commit.strip(), bool(changes.strip()))


def _run(git: str, folder: Path, *arguments: str) -> str | None:
    # A checkout may name a program of its own as its file monitor; ours must not start it.
    command = [git, "-c", "core.fsmonitor=false", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - fixed arguments, no shell
            command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None
