from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import approx_fprime
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression, Ridge, SGDClassifier, SGDRegressor
from sklearn.preprocessing import StandardScaler

from modelyard.core.errors import Invalid
from modelyard.train.algorithms import SgdClassifier, SgdRegressor
from modelyard.train.descent import Descent, descend
from modelyard.train.losses import LOSSES, loss

MODES = ("batch", "minibatch", "stochastic")
OF_CLASSES = ("log_loss", "hinge", "squared_hinge", "modified_huber", "perceptron")
OF_VALUES = ("squared_error", "huber", "epsilon_insensitive", "squared_epsilon_insensitive")


@pytest.fixture(scope="module")
def line() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(3)
    rows = random.normal(size=(200, 4))
    return rows, rows @ [1.5, -2.0, 0.0, 0.5] + 0.7 + 0.1 * random.normal(size=200)


@pytest.fixture(scope="module")
def cancer() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rows, target = load_breast_cancer(return_X_y=True)
    return StandardScaler().fit_transform(rows), target


def regress(data: Any, validation: Any = None, **parameters: Any) -> Descent:
    return descend(SGDRegressor(), SgdRegressor(**parameters), *data, validation, 0)


def classify(data: Any, **parameters: Any) -> Descent:
    return descend(SGDClassifier(), SgdClassifier(**parameters), *data, None, 0)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_slopes_are_the_derivatives_of_their_losses(name: str) -> None:
    """Checked by differences, away from the kinks."""
    found = loss(name)
    for target in (-1.0, 1.0):
        for margin in (-2.3, -0.4, 0.37, 1.6):
            slope = found.slope(np.array([margin]), np.array([target]), 0.25)[0]

            def value(p: NDArray[np.float64], y: float = target) -> float:
                return float(found.value(p, np.array([y]), 0.25)[0])

            assert slope == pytest.approx(approx_fprime(np.array([margin]), value)[0], abs=1e-5)


def test_textbook_synonyms_are_the_same_loss() -> None:
    """Mean squared error and cross-entropy go by two names each."""
    assert loss("mean_squared_error") is LOSSES["squared_error"]
    assert loss("cross_entropy") is LOSSES["log_loss"]


def test_batch_descent_finds_the_closed_form_of_ridge(line: Any) -> None:
    """Ridge's penalty is a sum over rows, ours a mean: alpha is n times larger there."""
    found = regress(line, mode="batch", alpha=0.05, tolerance=1e-12, epochs=5000).estimator
    rows, target = line
    exact = Ridge(alpha=0.05 * len(rows)).fit(rows, target)
    np.testing.assert_allclose(found.coef_, exact.coef_, atol=1e-6)
    np.testing.assert_allclose(found.intercept_, exact.intercept_, atol=1e-6)


def test_batch_descent_finds_scikit_learns_logistic_regression(cancer: Any) -> None:
    """The same minimum as L-BFGS on real data, C being 1 / (n alpha)."""
    rows, target = cancer
    found = classify(cancer, mode="batch", alpha=0.01, tolerance=1e-9, epochs=20_000).estimator
    exact = LogisticRegression(C=1 / (0.01 * len(rows)), tol=1e-10, max_iter=10_000).fit(
        rows, target
    )
    np.testing.assert_allclose(found.coef_, exact.coef_, atol=1e-3)
    np.testing.assert_allclose(found.predict_proba(rows), exact.predict_proba(rows), atol=1e-3)


def test_one_batch_update_is_the_mean_over_all_rows(line: Any) -> None:
    """One epoch of batch descent from zero is one step along the mean gradient."""
    rows, target = line
    found = regress(line, mode="batch", epochs=1, eta0=0.1, penalty="none").estimator
    np.testing.assert_allclose(found.coef_, 0.1 * (target[:, None] * rows).mean(axis=0))
    assert found.intercept_[0] == pytest.approx(0.1 * target.mean())
    assert found.n_iter_ == 1


def test_mini_batches_update_once_a_batch(line: Any) -> None:
    """200 rows in batches of 64 are four updates an epoch, the last of 8 rows."""
    found = regress(line, mode="minibatch", batch_size=64, epochs=3, tolerance=0.0).estimator
    assert found.n_iter_ == 12


def test_stochastic_descent_updates_once_a_row(line: Any) -> None:
    """scikit-learn counts its updates in `t_`, from 1."""
    found = regress(line, mode="stochastic", epochs=3, tolerance=0.0).estimator
    assert found.t_ == 1 + 3 * 200


def test_a_mini_batch_of_one_row_walks_the_stochastic_way(line: Any) -> None:
    """The same rate and no penalty, one epoch: scikit-learn's update and ours are one formula."""
    common = {"epochs": 1, "penalty": "none", "learning_rate": "constant", "eta0": 0.01}
    ours = regress(line, mode="minibatch", batch_size=1, **common).estimator
    theirs = regress(line, mode="stochastic", **common).estimator
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-9)


def test_the_three_modes_take_different_ways(line: Any) -> None:
    """After one epoch of the same rate they stand in three places."""
    common = {"epochs": 1, "eta0": 0.01, "learning_rate": "constant"}
    places = [regress(line, mode=mode, **common).estimator.coef_ for mode in MODES]
    assert len({tuple(place) for place in places}) == 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OF_CLASSES)
def test_every_mode_and_loss_learns_classes(cancer: Any, mode: str, name: str) -> None:
    """Each tells the breast-cancer table nearly as well as logistic regression does."""
    found = classify(cancer, mode=mode, loss=name)
    assert found.estimator.score(*cancer) > 0.97
    assert found.train_loss[-1] < found.train_loss[0] or name == "perceptron"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", OF_VALUES)
def test_every_mode_and_loss_learns_values(line: Any, mode: str, name: str) -> None:
    """Each finds the line through nearly noiseless points."""
    assert regress(line, mode=mode, loss=name).estimator.score(*line) > 0.98


@pytest.mark.parametrize("mode", MODES)
def test_more_than_two_classes_are_each_against_the_rest(mode: str) -> None:
    """Probabilities are those of a standard estimator: they sum to one."""
    rows, target = load_iris(return_X_y=True)
    names = np.array(["setosa", "versicolor", "virginica"], object)[target]
    found = classify((StandardScaler().fit_transform(rows), names), mode=mode).estimator
    scaled = StandardScaler().fit_transform(rows)
    assert found.coef_.shape == (3, 4)
    assert found.score(scaled, names) > 0.9
    np.testing.assert_allclose(found.predict_proba(scaled).sum(axis=1), 1.0)


@pytest.mark.parametrize("mode", MODES)
def test_an_l1_penalty_leaves_exact_zeros(line: Any, mode: str) -> None:
    """The third weight means nothing; l1 says so, l2 does not."""
    sparse = regress(line, mode=mode, penalty="l1", alpha=0.1).estimator
    dense = regress(line, mode=mode, penalty="l2", alpha=0.1).estimator
    assert sparse.coef_[2] == 0.0
    assert dense.coef_[2] != 0.0


def test_the_penalty_mixes(line: Any) -> None:
    """An elastic net without L1 is L2, and with nothing but L1 is L1."""
    common = {"mode": "batch", "alpha": 0.1}
    l1 = regress(line, penalty="l1", **common).estimator.coef_
    l2 = regress(line, penalty="l2", **common).estimator.coef_
    elastic = [regress(line, penalty="elastic_net", l1_ratio=r, **common) for r in (0.0, 1.0)]
    np.testing.assert_array_equal(elastic[0].estimator.coef_, l2)
    np.testing.assert_array_equal(elastic[1].estimator.coef_, l1)


@pytest.mark.parametrize("schedule", ["constant", "inverse_scaling", "adaptive", "optimal"])
@pytest.mark.parametrize("mode", MODES)
def test_every_schedule_arrives(line: Any, mode: str, schedule: str) -> None:
    """From a rate of 0.05 each gets to the line."""
    found = regress(line, mode=mode, learning_rate=schedule, eta0=0.05, alpha=0.01)
    assert found.estimator.score(*line) > 0.98


def test_a_rate_too_high_is_an_error_that_says_so(line: Any) -> None:
    """Divergence must not become a model of infinities."""
    with np.errstate(all="ignore"), pytest.raises(Invalid, match="eta0"):
        regress(line, mode="batch", eta0=50.0)


def test_the_loss_is_recorded_each_epoch_on_both_parts(line: Any) -> None:
    """One value an epoch, on train and on validation."""
    seen: list[tuple[int, int]] = []
    rows, target = line
    found = descend(
        SGDRegressor(),
        SgdRegressor(mode="batch", epochs=7, tolerance=0.0),
        rows[:150],
        target[:150],
        (rows[150:], target[150:]),
        0,
        lambda done, total: seen.append((done, total)),
    )
    assert len(found.train_loss) == len(found.validation_loss) == 7
    assert seen == [(epoch, 7) for epoch in range(1, 8)]
