"""Every algorithm on every data set: the opened bundle answers what the estimator answers."""

from pathlib import Path

import numpy as np
import pytest

from modelyard.bundle.manifest import Format
from modelyard.core.table import LABEL, PREDICTION, PROBABILITIES, TableReader
from modelyard.optimise.parity import cast_inputs
from modelyard.packaging.package import package_estimator
from modelyard.packaging.signature import as_frame, to_tensors
from modelyard.runtimes.open import open_runtime
from tests.zoo import ZOO, Case, load

TOLERANCE = 1e-5


@pytest.mark.parametrize("case", ZOO, ids=str)
def test_the_bundle_answers_as_the_estimator(case: Case, tmp_path: Path) -> None:
    """Labels are identical and numbers within the tolerance, on rows the proof has not seen."""
    model = case.fit()
    data = load(case.dataset)
    sample, unseen = data.test[::2], data.test[1::2]
    bundle = package_estimator(model, name="model", sample=sample, staging=tmp_path)
    conversion = bundle.manifest.conversion
    assert (bundle.manifest.serving.format is Format.ONNX) == case.onnx, conversion.reason
    assert conversion.verdict == ("equal" if case.onnx else "unequal")
    assert conversion.reason
    runtime = open_runtime(bundle)
    frame = as_frame(model, unseen)
    inputs = cast_inputs(runtime.signature, to_tensors(runtime.signature, frame))
    runtime.signature.check(inputs)
    outputs = runtime.run(inputs)
    predicted = model.predict(unseen)
    if PREDICTION in outputs:
        _check_close(outputs[PREDICTION][:, 0], predicted)
        return
    np.testing.assert_array_equal(outputs[LABEL], predicted)
    assert (PROBABILITIES in outputs) == hasattr(model, "predict_proba")
    if PROBABILITIES in outputs:
        _check_close(outputs[PROBABILITIES], model.predict_proba(unseen))


@pytest.mark.parametrize(
    "case", [case for case in ZOO if case.dataset == "mixed_strings"][:3], ids=str
)
def test_rows_as_objects_give_the_same(case: Case, tmp_path: Path) -> None:
    """Rows as JSON objects, with null for what is missing, answer as the table does."""
    model = case.fit()
    sample = load(case.dataset).test
    bundle = package_estimator(model, name="model", sample=sample, staging=tmp_path)
    rows = [
        {name: None if value != value else value for name, value in row.items()}
        for row in sample.astype(object).where(sample.notna(), None).to_dict("records")
    ]
    runtime = open_runtime(bundle)
    inputs = TableReader(runtime.signature).rows(rows)
    runtime.signature.check(inputs)
    np.testing.assert_array_equal(runtime.run(inputs)[LABEL], model.predict(sample))


def _check_close(actual: np.ndarray, expected: np.ndarray) -> None:
    scale = np.maximum(1.0, np.abs(expected))
    assert float(np.max(np.abs(actual - expected) / scale)) <= TOLERANCE
