"""Every runtime, opened from a bundle, against the conformance suite of the port."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC
from xgboost import XGBClassifier, XGBRegressor

from modelyard.bundle.bundle import Bundle
from modelyard.bundle.manifest import Conversion, Format
from modelyard.core.ports import Arrays, Runtime
from modelyard.core.signature import Signature
from modelyard.optimise.ladder import Converted
from modelyard.packaging import lightgbm, sklearn, xgboost
from modelyard.packaging.extras import Extras
from modelyard.packaging.labels import LabelledClassifier
from modelyard.packaging.native import Native
from modelyard.packaging.package import build, framework_of, package_estimator
from modelyard.packaging.signature import answers, as_frame, infer_signature, to_tensors
from modelyard.runtimes.open import open_runtime
from modelyard.testing.runtime import RuntimeSuite
from tests.zoo import load, mixed_pipeline

Keep = Callable[[Any, Signature], Native | None]


def native_bundle(model: Any, dataset: str, keep: Keep) -> Bundle:
    """A bundle that serves the model's own file, as if it had not converted."""
    data = load(dataset)
    model.fit(data.train, data.target)
    frame = as_frame(model, data.test)
    signature = infer_signature(model, frame, answers(model, frame))
    native = keep(model, signature)
    assert native is not None
    unconverted = Converted(Conversion(Format.ONNX, "unsupported", "not tried"))
    inputs = to_tensors(signature, frame)
    staging = Path(mkdtemp(prefix="modelyard-test-"))
    return build("model", staging, Extras(), framework_of(model), native, unconverted, inputs, {})


@cache
def bundle(name: str) -> Bundle:
    if name == "onnx":
        data = load("mixed_strings")
        model = mixed_pipeline(LogisticRegression(max_iter=500)).fit(data.train, data.target)
        staging = Path(mkdtemp(prefix="modelyard-test-"))
        return package_estimator(model, name="model", sample=data.test, staging=staging)
    model, dataset, keep = NATIVE[name]()
    return native_bundle(model, dataset, keep)


NATIVE: dict[str, Callable[[], tuple[Any, str, Keep]]] = {
    "skops_table": lambda: (
        mixed_pipeline(LogisticRegression(max_iter=500)),
        "mixed_strings",
        sklearn.as_skops,
    ),
    "skops_numbers": lambda: (
        LogisticRegression(max_iter=5000),
        "breast_cancer",
        sklearn.as_skops,
    ),
    "skops_labels_only": lambda: (LinearSVC(max_iter=20_000), "iris", sklearn.as_skops),
    "skops_xgboost": lambda: (
        mixed_pipeline(LabelledClassifier(XGBClassifier(n_estimators=5))),
        "mixed_strings",
        sklearn.as_skops,
    ),
    "xgboost_classes": lambda: (
        LabelledClassifier(XGBClassifier(n_estimators=5)),
        "iris_named",
        xgboost.from_estimator,
    ),
    "xgboost_binary": lambda: (
        XGBClassifier(n_estimators=5),
        "breast_cancer",
        xgboost.from_estimator,
    ),
    "xgboost_numbers": lambda: (
        XGBRegressor(n_estimators=5),
        "diabetes",
        xgboost.from_estimator,
    ),
    "lightgbm_classes": lambda: (
        LGBMClassifier(n_estimators=5, verbose=-1),
        "iris_named",
        lightgbm.from_estimator,
    ),
    "lightgbm_numbers": lambda: (
        LGBMRegressor(n_estimators=5, verbose=-1),
        "diabetes",
        lightgbm.from_estimator,
    ),
}


class _Bundled(RuntimeSuite):
    name: str

    def open(self) -> Runtime:
        return open_runtime(bundle(self.name))

    def inputs(self) -> Arrays:
        from modelyard.bundle.samples import decode_samples

        return decode_samples(bundle(self.name).read("samples.json")).inputs

    def test_the_recorded_outputs_come_again(self, runtime: Runtime) -> None:
        """The bundle's samples give the outputs that were recorded when it was made."""
        from modelyard.bundle.samples import decode_samples

        samples = decode_samples(bundle(self.name).read("samples.json"))
        outputs = runtime.run(samples.inputs)
        for name, array in samples.outputs.items():
            if array.dtype.kind == "f":
                np.testing.assert_allclose(outputs[name], array, rtol=1e-6, atol=1e-7)
            else:
                np.testing.assert_array_equal(outputs[name], array)


class TestOnnx(_Bundled):
    name = "onnx"


class TestSkopsTable(_Bundled):
    name = "skops_table"


class TestSkopsNumbers(_Bundled):
    name = "skops_numbers"


class TestSkopsLabelsOnly(_Bundled):
    name = "skops_labels_only"


class TestSkopsXgboost(_Bundled):
    name = "skops_xgboost"


class TestXgboostClasses(_Bundled):
    name = "xgboost_classes"


class TestXgboostBinary(_Bundled):
    name = "xgboost_binary"


class TestXgboostNumbers(_Bundled):
    name = "xgboost_numbers"


class TestLightgbmClasses(_Bundled):
    name = "lightgbm_classes"


class TestLightgbmNumbers(_Bundled):
    name = "lightgbm_numbers"


def test_each_serves_in_its_own_format() -> None:
    """The suite above tests what it says it tests."""
    formats = {name: bundle(name).manifest.serving.format for name in ("onnx", *NATIVE)}
    assert {str(found) for found in formats.values()} == {"onnx", "skops", "xgboost", "lightgbm"}
    for name, found in formats.items():
        assert name.startswith(str(found))


@pytest.mark.parametrize("name", ["onnx", "skops_table", "xgboost_classes", "lightgbm_classes"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    """A flipped bit in the serving file is refused before anything is constructed."""
    from modelyard.core.errors import DamagedBundle

    whole = bundle(name)
    path = whole.manifest.serving.path
    data = bytearray(whole.read(path))
    data[len(data) // 2] ^= 1
    damaged = tmp_path / "file"
    damaged.write_bytes(data)
    with pytest.raises(DamagedBundle) as caught:
        open_runtime(Bundle(whole.manifest, {**whole.files, path: damaged}))
    assert caught.value.field == path
