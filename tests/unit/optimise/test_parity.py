"""Proofs of equality that notice what is not equal."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from modelyard.core.datatypes import Array
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature
from modelyard.optimise import ladder
from modelyard.optimise.parity import compare, prove_equal
from modelyard.optimise.rows import UNKNOWN_CATEGORY, hard_rows
from modelyard.packaging.signature import answers, as_frame, infer_signature, to_tensors
from modelyard.runtimes.sklearn import EstimatorRuntime
from tests.zoo import load, mixed_pipeline


def fitted() -> tuple[EstimatorRuntime, dict[str, Array], object]:
    data = load("mixed_strings")
    model = mixed_pipeline(LogisticRegression(max_iter=500)).fit(data.train, data.target)
    frame = as_frame(model, data.test)
    signature = infer_signature(model, frame, answers(model, frame))
    return EstimatorRuntime(model, signature), to_tensors(signature, frame), model


class Changed:
    """A runtime whose answers are changed on their way out."""

    def __init__(self, inner: EstimatorRuntime, change: str) -> None:
        self._inner, self._change = inner, change

    @property
    def signature(self) -> Signature:
        return self._inner.signature

    def run(self, inputs: Arrays) -> dict[str, Array]:
        outputs = self._inner.run(inputs)
        shares = outputs["probabilities"].copy()
        if self._change == "label":
            outputs["label"] = np.array(["low"] * len(shares), object)
        elif self._change == "number":
            shares[0, 0] += 1e-3
        elif self._change == "nan":
            shares[0, 0] = np.nan
        elif self._change == "batch" and len(shares) == 1:
            shares += 0.1
        return {**outputs, "probabilities": shares}

    def close(self) -> None: ...


@pytest.mark.parametrize("change", ["label", "number", "nan", "batch"])
def test_differences_are_found(change: str) -> None:
    """A wrong label, number, NaN or dependence on the batch is no equality, and says which."""
    runtime, inputs, _ = fitted()
    parity = prove_equal(runtime, Changed(runtime, change), inputs)
    assert not parity.is_equal
    assert {"label": "label", "number": "0.001", "nan": "inf", "batch": "alone"}[
        change
    ] in parity.complaint


def test_a_model_equals_itself() -> None:
    """The proof passes where nothing differs."""
    runtime, inputs, _ = fitted()
    parity = prove_equal(runtime, runtime, inputs)
    assert parity.is_equal
    assert parity.rows == len(inputs["age"])


def test_infinite_and_missing_answers_are_compared() -> None:
    """Two NaN are equal, and two equal infinities."""
    left = {"p": np.array([np.nan, np.inf, 1.0])}
    assert compare(left, {"p": left["p"].astype(np.float32)}).is_equal
    assert not compare(left, {"p": np.array([np.nan, -np.inf, 1.0])}).is_equal


def test_hard_rows_try_unknown_and_missing_values() -> None:
    """Half of the rows are new, with unseen categories and missing values where they may be."""
    runtime, inputs, _ = fitted()
    rows = hard_rows(runtime.signature, inputs)
    assert len(rows["age"]) == 2 * len(inputs["age"])
    new = len(inputs["age"])
    assert UNKNOWN_CATEGORY in rows["city"][new:]
    assert "" in rows["city"][new:]
    assert np.isnan(rows["income"][new:]).any()
    assert not np.isnan(inputs["income"]).any()
    runtime.signature.check(rows)


def test_an_unequal_graph_never_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter that is wrong costs the speed, not the answers: the verdict has the numbers."""
    runtime, inputs, model = fitted()
    convert = ladder.convert

    def wrong(estimator: object, *rest: object) -> object:
        import copy

        twin = copy.deepcopy(estimator)
        twin.steps[-1][1].coef_[0] += 1.0
        return convert(twin, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(ladder, "convert", wrong)
    converted = ladder.convert_proven(model, runtime, inputs)
    assert converted.graph is None
    assert converted.verdict.verdict == "unequal"
    assert converted.verdict.labels_differing > 0
    assert "differ" in converted.verdict.reason


def test_what_cannot_be_converted_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A converter's own message is the reason."""
    runtime, inputs, model = fitted()

    def broken(*_: object) -> None:
        raise RuntimeError("no converter for this")

    monkeypatch.setattr(ladder, "convert", broken)
    verdict = ladder.convert_proven(model, runtime, inputs).verdict
    assert verdict.verdict == "unsupported"
    assert "no converter for this" in verdict.reason
