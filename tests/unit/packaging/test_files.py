"""Model files: what they are by content, and what is refused."""

import os
import pickle
from pathlib import Path

import joblib
import numpy as np
import pytest
import skops.io
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import FunctionTransformer
from xgboost import XGBClassifier, XGBRegressor

from modelyard.bundle.manifest import Format
from modelyard.core.errors import Invalid, ModelyardError, UntrustedFormat
from modelyard.core.table import LABEL, PREDICTION, PROBABILITIES
from modelyard.packaging.detect import Kind, detect
from modelyard.packaging.package import package_estimator, package_file
from modelyard.runtimes.features import INPUT
from modelyard.runtimes.open import open_runtime
from tests.zoo import load


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/modelyard-owned-by-a-pickle",)


@pytest.fixture
def staging(tmp_path: Path) -> Path:
    folder = tmp_path / "staging"
    folder.mkdir()
    return folder


def logistic() -> LogisticRegression:
    data = load("iris")
    return LogisticRegression(max_iter=1000).fit(data.train, data.target)


@pytest.mark.parametrize("suffix", ["json", "ubj"])
@pytest.mark.parametrize("sampled", [True, False])
def test_xgboost_files_answer_as_their_model(
    tmp_path: Path, staging: Path, suffix: str, sampled: bool
) -> None:
    """JSON and UBJSON, with a sample and without one, serve as ONNX proven equal."""
    data = load("iris")
    model = XGBClassifier(n_estimators=8).fit(data.train, data.target)
    path = tmp_path / f"model.{suffix}"
    model.save_model(path)
    bundle = package_file(path, name="m", sample=data.test if sampled else None, staging=staging)
    assert bundle.manifest.serving.format is Format.ONNX, bundle.manifest.conversion.reason
    assert (bundle.manifest.samples is not None) == sampled
    outputs = open_runtime(bundle).run({INPUT: data.test.astype(np.float32)})
    np.testing.assert_array_equal(outputs[LABEL], model.predict(data.test))
    np.testing.assert_allclose(outputs[PROBABILITIES], model.predict_proba(data.test), atol=1e-5)


def test_xgboost_regressions_come_from_files(tmp_path: Path, staging: Path) -> None:
    """A regression keeps its names and its base score."""
    data = load("diabetes")
    model = XGBRegressor(n_estimators=8).fit(data.train, data.target)
    model.save_model(tmp_path / "model.json")
    bundle = package_file(tmp_path / "model.json", name="m", sample=data.test, staging=staging)
    assert [each.name for each in bundle.manifest.signature.columns] == list(data.test.columns)
    spec = bundle.manifest.signature.inputs[0]
    outputs = open_runtime(bundle).run({INPUT: data.test.to_numpy(spec.datatype.dtype)})
    np.testing.assert_allclose(outputs[PREDICTION][:, 0], model.predict(data.test), rtol=1e-5)


@pytest.mark.parametrize("sampled", [True, False])
@pytest.mark.parametrize("dataset", ["iris", "breast_cancer", "diabetes"])
def test_lightgbm_files_answer_as_their_model(
    tmp_path: Path, staging: Path, dataset: str, sampled: bool
) -> None:
    """LightGBM text of several, two and no classes."""
    data = load(dataset)
    kind = LGBMRegressor if dataset == "diabetes" else LGBMClassifier
    model = kind(n_estimators=8, verbose=-1).fit(np.asarray(data.train), data.target)
    model.booster_.save_model(tmp_path / "model.txt")
    rows = np.asarray(data.test)
    bundle = package_file(
        tmp_path / "model.txt", name="m", sample=rows if sampled else None, staging=staging
    )
    assert bundle.manifest.serving.format is Format.ONNX, bundle.manifest.conversion.reason
    outputs = open_runtime(bundle).run({INPUT: rows})
    if dataset == "diabetes":
        np.testing.assert_allclose(outputs[PREDICTION][:, 0], model.predict(rows), rtol=1e-5)
    else:
        np.testing.assert_array_equal(outputs[LABEL], model.predict(rows))


def test_early_stopping_keeps_the_best_rounds(staging: Path) -> None:
    """An estimator that stopped early predicts with its best rounds, and so does its bundle."""
    data = load("diabetes")
    model = XGBRegressor(n_estimators=60, early_stopping_rounds=2, learning_rate=0.8)
    model.fit(data.train, data.target, eval_set=[(data.test, np.zeros(len(data.test)))], verbose=0)
    assert model.best_iteration + 1 < model.get_booster().num_boosted_rounds()
    bundle = package_estimator(model, name="m", sample=data.test, staging=staging)
    spec = bundle.manifest.signature.inputs[0]
    outputs = open_runtime(bundle).run({INPUT: data.test.to_numpy(spec.datatype.dtype)})
    np.testing.assert_allclose(outputs[PREDICTION][:, 0], model.predict(data.test), rtol=1e-5)


def test_skops_files_are_opened(tmp_path: Path, staging: Path) -> None:
    """A skops file of trusted types becomes a bundle."""
    skops.io.dump(logistic(), tmp_path / "model.skops")
    bundle = package_file(
        tmp_path / "model.skops", name="m", sample=load("iris").test, staging=staging
    )
    assert bundle.manifest.framework.name == "sklearn"
    assert {entry.path for entry in bundle.manifest.files} == {
        "model.onnx",
        "model.skops",
        "samples.json",
    }
    assert bundle.manifest.lineage.packages["scikit-learn"]
    assert bundle.manifest.lineage.python


def test_untrusted_types_are_named(tmp_path: Path, staging: Path) -> None:
    """A skops file that names a function outside the list is refused before it is imported."""
    skops.io.dump(FunctionTransformer(os.getcwd), tmp_path / "model.skops")
    with pytest.raises(UntrustedFormat, match="getcwd"):
        package_file(tmp_path / "model.skops", name="m", sample=None, staging=staging)


@pytest.mark.parametrize("compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3)])
def test_pickles_need_the_operators_trust(
    tmp_path: Path, staging: Path, compress: int | tuple[str, int]
) -> None:
    """Refused by default; when trusted, stored as anything but a pickle."""
    path = tmp_path / "model.joblib"
    joblib.dump(logistic(), path, compress=compress)
    sample = load("iris").test
    with pytest.raises(UntrustedFormat, match="--trust-pickle"):
        package_file(path, name="m", sample=sample, staging=staging)
    bundle = package_file(path, name="m", sample=sample, staging=staging, trust_pickle=True)
    assert {entry.path for entry in bundle.manifest.files} == {
        "model.onnx",
        "model.skops",
        "samples.json",
    }


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_protocol_is_known_for_a_pickle(tmp_path: Path, protocol: int) -> None:
    """With a magic number or without one, small or large: a pickle, by content alone."""
    path = tmp_path / "model"
    for thing in (Evil(), logistic(), [1], {"a": (None, 2.5)}, np.arange(5000)):
        path.write_bytes(pickle.dumps(thing, protocol=protocol))
        assert detect(path) is Kind.PICKLE, thing


@pytest.mark.parametrize(
    "text",
    [
        *("churn,age\n1,2\n0,3\n", "c\n1\n0\n", "Id;x\n1;2\n", "I1\n2\n", "(a),(b)\n1,2\n"),
        *("(abc),x\n1,2\n1,2\n", "]\n", "}x,y\n1,2\n", "no newline", "1\n2\n", "0\n0\n"),
        # These letters would open a field of an ONNX message, or a zlib stream.
        *("rooms,price\n1,2\n", "Balance,y\n1,2\n", '"a","b"\n1,2\n', "2,3\n", "x,y\n1,2\n"),
        *("[1, 2]\n", "\N{BYTE ORDER MARK}a,b\n1,2\n", "größe,b\n1,2\n", "S'x'\n", "N,NN\n"),
    ],
)
def test_a_table_is_no_model(tmp_path: Path, text: str) -> None:
    """Whatever letter a text begins with, it is no pickle and no ONNX, and training is offered."""
    path = tmp_path / "churn.csv"
    path.write_text(text, "utf-8")
    with pytest.raises(Invalid, match=r"is no model that Modelyard reads.*modelyard train --data"):
        detect(path)


@pytest.mark.parametrize("protocol", [0, 2, 5])
@pytest.mark.parametrize("name", ["model.pkl", "model.onnx", "model.skops", "model"])
def test_a_hostile_pickle_never_runs(
    tmp_path: Path, staging: Path, protocol: int, name: str
) -> None:
    """Whatever a pickle is called, opening it is refused and its code does not run."""
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Evil(), protocol=protocol))
    with pytest.raises(ModelyardError):
        package_file(path, name="m", sample=None, staging=staging)
    assert not Path("/tmp/modelyard-owned-by-a-pickle").exists()


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("model.onnx", b"", "empty_file"),
        ("model.onnx", b"hello, this is no model", "unknown_format"),
        ("model.json", b"tree\nversion=v4\n", "wrong_format"),
        ("model.json", b'{"hello": "world"}', "bad_xgboost"),
        ("model.ubj", b"{L\x00\x00\x00\x00\x00\x00\x00\x07learner{L\x00", "bad_xgboost"),
        ("model.txt", b"tree\nversion=v4\n", "bad_lightgbm"),
        ("model.txt", b"tree\nversion=v4\n\nend of trees\n", "bad_lightgbm"),
        ("model.skops", b"PK\x03\x04 and no more", "bad_skops"),
        ("model.onnx", b"\x08\x08\x12\xff\xff\xff", "bad_onnx"),
    ],
)
def test_broken_files_are_invalid(
    tmp_path: Path, staging: Path, name: str, content: bytes, code: str
) -> None:
    """Empty, truncated or misnamed: an error that says so, never a crash."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(Invalid) as caught:
        package_file(path, name="m", sample=None, staging=staging)
    assert caught.value.code == code


def test_folders_and_links_are_no_files(tmp_path: Path, staging: Path) -> None:
    """A folder, a symbolic link and a missing file are refused by name."""
    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    link = tmp_path / "link.onnx"
    link.symlink_to("/etc/hostname")
    for path, code in (
        (folder, "not_a_file"),
        (link, "not_a_file"),
        (tmp_path / "x", "no_such_file"),
    ):
        with pytest.raises(Invalid) as caught:
            package_file(path, name="m", sample=None, staging=staging)
        assert caught.value.code == code
