"""Conversions that are exact where the stock converters are not."""

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, SGDClassifier
from sklearn.pipeline import make_pipeline

from modelyard.core.datatypes import Datatype
from modelyard.optimise.convert import Attempt, convert
from modelyard.packaging.signature import answers, as_frame, infer_signature
from modelyard.runtimes.features import INPUT
from modelyard.runtimes.onnx import OnnxRuntime, open_session


def converted(model: object, rows: np.ndarray, datatype: Datatype) -> OnnxRuntime:
    frame = as_frame(model, rows)
    native = infer_signature(model, frame, answers(model, frame))
    graph, signature = convert(model, native, Attempt(datatype))
    return OnnxRuntime(open_session(graph), signature)


@pytest.mark.parametrize("words", [False, True])
def test_tied_votes_go_to_the_first_class(words: bool) -> None:
    """Forests whose trees are evenly divided choose as scikit-learn does."""
    random = np.random.default_rng(3)
    features = random.integers(0, 4, (400, 3)).astype(np.float32)
    target = random.integers(0, 2, 400)
    labels = np.array(["no", "yes"])[target] if words else target
    model = RandomForestClassifier(20, max_features=1, random_state=0).fit(features, labels)
    votes = sum(tree.predict(features) for tree in model.estimators_)
    assert (votes == 10).sum() > 5
    outputs = converted(model, features, Datatype.FP32).run({INPUT: features})
    np.testing.assert_array_equal(outputs["label"], model.predict(features))


def test_missing_values_take_the_learnt_branch() -> None:
    """A forest that was fitted with gaps sends them where scikit-learn sends them."""
    random = np.random.default_rng(0)
    features = random.normal(size=(300, 4)).astype(np.float32)
    target = (features[:, 0] > 0).astype(int)
    features[random.random(features.shape) < 0.2] = np.nan
    model = RandomForestClassifier(10, random_state=0).fit(features, target)
    outputs = converted(model, features, Datatype.FP32).run({INPUT: features})
    np.testing.assert_allclose(outputs["probabilities"], model.predict_proba(features), atol=1e-6)


def test_thresholds_are_not_rounded() -> None:
    """Values one float64 step from a threshold take the right branch."""
    features = np.repeat(np.array([[0.1], [0.3]]), 50, axis=0)
    target = np.repeat([0, 1], 50)
    model = HistGradientBoostingClassifier(max_iter=1, min_samples_leaf=1).fit(features, target)
    threshold = model._predictors[0][0].nodes["num_threshold"][0]
    rows = np.array([[np.nextafter(threshold, -1)], [threshold], [np.nextafter(threshold, 1)]])
    outputs = converted(model, features, Datatype.FP64).run({INPUT: rows})
    np.testing.assert_allclose(outputs["probabilities"], model.predict_proba(rows), atol=1e-6)
    assert len(np.unique(outputs["probabilities"][:, 0])) == 2


def test_a_clipped_score_still_decides() -> None:
    """Where several probabilities are 1, the label is the best score's."""
    random = np.random.default_rng(0)
    features = random.normal(size=(200, 3)) * 50
    target = features.argmax(axis=1)
    model = SGDClassifier(loss="modified_huber", random_state=0).fit(features, target)
    outputs = converted(model, features, Datatype.FP64).run({INPUT: features})
    np.testing.assert_array_equal(outputs["label"], model.predict(features))
    np.testing.assert_allclose(outputs["probabilities"], model.predict_proba(features), atol=1e-9)


@pytest.mark.parametrize("datatype", [Datatype.FP32, Datatype.FP64])
def test_imputers_add_their_indicators(datatype: Datatype) -> None:
    """Missing values are filled and flagged, in both precisions."""
    random = np.random.default_rng(0)
    features = random.normal(size=(100, 3)).astype(np.float32).astype(np.float64)
    features[::7, 1] = np.nan
    model = make_pipeline(SimpleImputer(add_indicator=True), LinearRegression())
    model.fit(features, random.normal(size=100))
    outputs = converted(model, features, datatype).run({INPUT: features.astype(datatype.dtype)})
    np.testing.assert_allclose(
        outputs["prediction"][:, 0], model.predict(features), rtol=1e-4, atol=1e-6
    )
