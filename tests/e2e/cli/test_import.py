"""`modelyard import`: model files from elsewhere."""

from pathlib import Path
from typing import Any

import joblib
import pytest
from skl2onnx import to_onnx


@pytest.fixture
def forest(tmp_path: Path) -> tuple[Any, Any]:
    from sklearn.datasets import load_iris
    from sklearn.ensemble import RandomForestClassifier

    features, target = load_iris(return_X_y=True)
    return RandomForestClassifier(5, random_state=0).fit(features, target), features


def test_an_onnx_file_is_published_and_deployed(
    modelyard: Any, forest: tuple[Any, Any], tmp_path: Path
) -> None:
    """ONNX comes in as it is, and answers like the estimator that it was made of."""
    import json

    import numpy as np

    estimator, features = forest
    path = tmp_path / "forest.onnx"
    path.write_bytes(to_onnx(estimator, features[:1].astype(np.float32)).SerializeToString())
    np.save(tmp_path / "sample.npy", features[:20].astype(np.float32))
    imported = modelyard.json(
        "import", path, "--name", "forest", "--sample", tmp_path / "sample.npy", "--deploy"
    )
    assert imported["conversion"]["verdict"] == "native"
    assert modelyard.json("models")[0]["routed"] == 1
    rows = "".join(json.dumps(row) + "\n" for row in features.tolist()).encode()
    done = modelyard("predict", "forest", "--input", "-", input=rows)
    answers = [json.loads(line)["prediction"] for line in done.stdout.splitlines()]
    labels = [next(iter(each.values())) if isinstance(each, dict) else each for each in answers]
    assert labels == estimator.predict(features).tolist()


def test_a_pickle_is_opened_only_on_request(
    modelyard: Any, forest: tuple[Any, Any], tmp_path: Path
) -> None:
    """Without `--trust-pickle` it is refused unopened; with it, converted and never kept."""
    estimator, features = forest
    path, sample = tmp_path / "forest.joblib", tmp_path / "sample.csv"
    joblib.dump(estimator, path)
    sample.write_text(
        "a,b,c,d\n" + "".join(",".join(map(str, row)) + "\n" for row in features.tolist())
    )
    asked = ("import", path, "--name", "forest", "--sample", sample)
    refused = modelyard(*asked, status=1).stderr.decode()
    assert len(refused.splitlines()) == 1
    assert "pickle" in refused
    assert modelyard.json("models") == []
    imported = modelyard.json(*asked, "--trust-pickle")
    assert imported["serving"]["format"] == "onnx"
    files = modelyard.json("bundle", "show", "forest")["files"]
    assert not any(entry["path"].endswith((".joblib", ".pkl")) for entry in files)


def test_a_sample_that_cannot_be_read_is_one_line(modelyard: Any, tmp_path: Path) -> None:
    """Missing or no table: named before anything is packaged."""
    model, sample = tmp_path / "m.onnx", tmp_path / "sample.npz"
    model.write_bytes(b"")
    asked = ("import", model, "--name", "m", "--sample", sample)
    assert b"there is no sample file" in modelyard(*asked, status=1).stderr
    sample.write_bytes(b"no zip")
    [line] = modelyard(*asked, status=1).stderr.decode().splitlines()
    assert "sample.npz cannot be read" in line
