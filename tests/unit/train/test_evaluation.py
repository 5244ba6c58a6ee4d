import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.svm import LinearSVC

from modelyard.core.errors import Invalid
from modelyard.train.evaluation import Report, evaluate, positive_class
from modelyard.train.fitting import Rows
from modelyard.train.gate import judge
from modelyard.train.recipe import Gate

X = pd.DataFrame({"a": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]})
TWO = np.array(["no", "no", "yes", "no", "yes", "yes"], object)
THREE = np.array([0, 0, 1, 1, 2, 2])


def report(model: object, target: np.ndarray, *, positive: object = None) -> Report:
    return evaluate(model, {"test": Rows(X, target)}, "classification", positive=positive)


def test_precision_is_of_the_positive_class() -> None:
    """A model that always says 'yes' is right half the time, and finds every 'yes'."""
    always = DummyClassifier(strategy="constant", constant="yes").fit(X, TWO)
    metrics = report(always, TWO, positive="yes").scores[0].metrics
    assert (metrics["accuracy"], metrics["precision"], metrics["recall"]) == (0.5, 0.5, 1.0)
    metrics = report(always, TWO, positive="no").scores[0].metrics
    assert (metrics["precision"], metrics["recall"], metrics["f1"]) == (0.0, 0.0, 0.0)


def test_ranking_does_not_depend_on_which_class_is_positive() -> None:
    """The area under the curve is the same seen from either class."""
    model = LogisticRegression().fit(X, TWO)
    found = [
        report(model, TWO, positive=each).scores[0].metrics["roc_auc"] for each in ("yes", "no")
    ]
    assert found == [pytest.approx(8 / 9)] * 2


def test_three_classes_are_averaged() -> None:
    """Macro: each class counts the same."""
    always = DummyClassifier(strategy="constant", constant=1).fit(X, THREE)
    metrics = report(always, THREE).scores[0].metrics
    assert metrics["recall"] == pytest.approx(1 / 3)
    assert metrics["precision"] == pytest.approx(1 / 9)
    assert metrics["roc_auc"] == 0.5


def test_the_confusion_matrix_has_actual_rows() -> None:
    """Row by what it was, column by what it was called."""
    always = DummyClassifier(strategy="constant", constant="yes").fit(X, TWO)
    confusion = report(always, TWO, positive="yes").scores[0].confusion
    assert confusion is not None
    assert confusion.labels == ("no", "yes")
    assert confusion.matrix == ((0, 3), (0, 3))


def test_a_part_of_one_class_has_a_reason_instead_of_nan() -> None:
    """No area under a curve without both classes; the log-loss can still be had."""
    model = LogisticRegression().fit(X, TWO)
    found = report(model, np.array(["yes"] * 6, object), positive="yes")
    assert "roc_auc" not in found.scores[0].metrics
    assert np.isfinite(found.scores[0].metrics["log_loss"])
    assert found.reasons["test", "roc_auc"] == "no row is of class 'no'"
    assert found.notes == ["no roc_auc on test: no row is of class 'no'"]


def test_a_class_that_training_never_saw_is_no_crash() -> None:
    """Its rows are wrong; what cannot be measured is left out."""
    model = LogisticRegression().fit(X, TWO)
    strange = np.array([*TWO[:5], "maybe"], object)
    found = report(model, strange, positive="yes")
    assert set(found.scores[0].metrics) == {"accuracy"}
    assert found.scores[0].confusion is not None
    assert found.scores[0].confusion.labels == ("maybe", "no", "yes")


def test_a_model_without_probabilities_still_ranks() -> None:
    """By its distance from the border; only the log-loss needs probabilities."""
    found = report(LinearSVC().fit(X, TWO), TWO, positive="yes")
    assert found.scores[0].metrics["roc_auc"] == pytest.approx(8 / 9)
    assert found.reasons == {("test", "log_loss"): "the model gives no probabilities"}


def test_a_regression_has_its_four_metrics() -> None:
    """Checked by hand for a model that is off by one everywhere but once."""
    model = LinearRegression().fit(X, X["a"])
    target = X["a"].to_numpy() + np.array([1, -1, 1, -1, 1, 0])
    metrics = evaluate(model, {"test": Rows(X, target)}, "regression").scores[0].metrics
    assert metrics["mse"] == pytest.approx(5 / 6)
    assert metrics["rmse"] == pytest.approx((5 / 6) ** 0.5)
    assert metrics["mae"] == pytest.approx(5 / 6)
    assert metrics["r2"] == pytest.approx(1 - 5 / ((target - target.mean()) ** 2).sum())


def test_one_row_has_no_r2() -> None:
    """Its variance is nothing to explain."""
    model = LinearRegression().fit(X, X["a"])
    found = evaluate(model, {"test": Rows(X[:1], np.array([1.0]))}, "regression")
    assert "r2" not in found.scores[0].metrics
    assert ("test", "r2") in found.reasons


def test_the_positive_class_may_be_named() -> None:
    """The last in order otherwise; more than two classes have none."""
    assert positive_class(np.array(["a", "b"]), None) == "b"
    assert positive_class(np.array(["a", "b"]), "a") == "a"
    assert positive_class(np.array([0, 1]), 0) == 0
    assert positive_class(np.array([0, 1, 2]), None) is None
    with pytest.raises(Invalid, match="'a', 'b'"):
        positive_class(np.array(["a", "b"]), "c")


@pytest.mark.parametrize(
    ("gate", "passed"),
    [
        (Gate(metric="accuracy", minimum=0.5), True),
        (Gate(metric="accuracy", minimum=0.51), False),
        (Gate(metric="accuracy", maximum=0.5), True),
        (Gate(metric="accuracy", minimum=0.1, maximum=0.4), False),
    ],
)
def test_limits_are_included(gate: Gate, passed: bool) -> None:
    """A model that is exactly as good as asked for is good enough."""
    always = DummyClassifier(strategy="constant", constant="yes").fit(X, TWO)
    found = report(always, TWO, positive="yes")
    thresholds, verdict = judge([gate], found.scores, found.reasons)
    assert thresholds[0].passed is passed
    assert thresholds[0].value == 0.5
    assert verdict == ("passed" if passed else "failed")


def test_all_conditions_must_be_met() -> None:
    """And a recipe without any is ungated, not passed."""
    always = DummyClassifier(strategy="constant", constant="yes").fit(X, TWO)
    found = report(always, TWO, positive="yes")
    both = [Gate(metric="accuracy", minimum=0.5), Gate(metric="recall", maximum=0.5)]
    assert judge(both, found.scores, found.reasons)[1] == "failed"
    assert judge([], found.scores, found.reasons) == ((), "ungated")


def test_a_condition_on_what_cannot_be_measured_is_an_error() -> None:
    """It must not be passed over in silence."""
    found = report(LinearSVC().fit(X, TWO), TWO, positive="yes")
    with pytest.raises(Invalid, match="the model gives no probabilities"):
        judge([Gate(metric="log_loss", maximum=1.0)], found.scores, found.reasons)
