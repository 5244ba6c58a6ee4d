import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from modelyard.packaging.package import package_estimator
from modelyard.packaging.provenance import provenance, source_commit


def test_the_source_commit_and_its_dirtiness_are_known(tmp_path: Path) -> None:
    """In a checkout: the commit, and whether anything changed since; outside: nothing."""

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(
            ["git", *identity, *arguments], cwd=tmp_path, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    assert source_commit(tmp_path) is None
    git("init", "-q")
    assert source_commit(tmp_path) is None
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "first")
    clean = source_commit(tmp_path)
    assert clean is not None
    assert (clean.commit, clean.dirty) == (git("rev-parse", "HEAD"), False)
    (tmp_path / "a").write_text("2")
    changed = source_commit(tmp_path)
    assert changed is not None
    assert changed.dirty


def test_parameters_seed_and_sample_are_recorded() -> None:
    """An estimator's plain parameters, its seed, and the fingerprint of the rows given with it."""
    model = RandomForestClassifier(7, random_state=3, max_depth=None)
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", None]})
    found = provenance(model, frame)
    assert found.parameters["n_estimators"] == 7
    assert found.parameters["max_depth"] is None
    assert found.seed == 3
    assert (found.data[0].rows, found.data[0].columns) == (2, 2)


def test_a_pipelines_steps_keep_their_parameters() -> None:
    """Parameters of steps are named by step; the steps themselves are no parameters."""
    model = make_pipeline(StandardScaler(with_mean=False), RandomForestClassifier(5))
    found = provenance(model, pd.DataFrame({"a": [1.0]}))
    assert found.parameters["standardscaler__with_mean"] is False
    assert found.parameters["randomforestclassifier__n_estimators"] == 5
    assert "standardscaler" not in found.parameters


def test_a_fingerprint_is_of_content() -> None:
    """Equal tables have one fingerprint; another value, name, type or order has another."""
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": ["x", "y"]})
    others = [
        frame.assign(a=[1.0, 3.0]),
        frame.rename(columns={"a": "c"}),
        frame.astype({"a": "float32"}),
        frame.iloc[::-1],
    ]

    def digest(table: pd.DataFrame) -> str:
        return provenance(None, table).data[0].sha256

    assert digest(frame) == digest(frame.copy())
    assert len({digest(frame), *map(digest, others)}) == 5


def test_a_published_estimator_carries_its_provenance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a lineage of its own, the bundle says what can be known."""
    monkeypatch.chdir(tmp_path)
    table = np.arange(20.0).reshape(10, 2)
    model = RandomForestClassifier(3, random_state=5).fit(table, np.arange(10) % 2)
    bundle = package_estimator(model, name="m", sample=table, staging=tmp_path)
    lineage = bundle.manifest.lineage
    assert (lineage.seed, lineage.parameters["n_estimators"]) == (5, 3)
    assert lineage.data[0].rows == 10
    assert lineage.source is None
    assert "scikit-learn" in lineage.packages
