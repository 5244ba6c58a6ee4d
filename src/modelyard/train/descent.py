"""Gradient descent for linear models in its three textbook forms.

With w the weights, b the intercept, B the rows of one update and η the learning rate, all three
minimise  E(w, b) = 1/n Σ L(w·xᵢ + b, yᵢ) + α R(w)  by

    w ← prox(w − η (1/|B| Σ_{i∈B} L′(w·xᵢ + b, yᵢ) xᵢ + α ∂R₂(w)))        b ← b − η 1/|B| Σ L′

where B is every row (batch), `batch_size` of them (mini-batch), or one (stochastic): Bottou,
Curtis, Nocedal, "Optimization methods for large-scale machine learning" (SIAM Review 60, 2018),
sections 3 and 5. R is ½‖w‖² (l2), ‖w‖₁ (l1) or their mixture; its L1 part is the soft threshold
of size ηα (proximal step), which leaves exact zeros. The stochastic form is scikit-learn's own,
one epoch at a time; the others hand out the same class of estimator with the coefficients set, so
that whatever converts or stores one takes the other.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from modelyard.core.errors import Invalid
from modelyard.train.algorithms import Sgd, SgdClassifier, SgdRegressor
from modelyard.train.losses import Loss, Values, loss

OnEpoch = Callable[[int, int], None]
_SCHEDULES = {"constant": "constant", "inverse_scaling": "invscaling", "adaptive": "constant"}
_FACTOR = 5.0
"""What `adaptive` divides its rate by when an epoch's loss no longer falls (as scikit-learn)."""
_SMALLEST_RATE = 1e-6
_DIVERGED = 100.0
"""A loss that has grown by this has left for infinity."""


@dataclass(frozen=True, slots=True)
class Descent:
    """A fitted estimator and the loss after each epoch, on train and where given on validation."""

    estimator: Any
    train_loss: list[float]
    validation_loss: list[float]
    converged: bool


@dataclass(frozen=True, slots=True)
class _Problem:
    """Rows, their targets (one column a class against the rest, or the value), and the loss."""

    rows: Values
    targets: Values
    loss: Loss
    epsilon: float

    def mean_loss(self, weights: Values, intercept: Values) -> float:
        margins = self.rows @ weights.T + intercept
        return float(self.loss.value(margins, self.targets, self.epsilon).mean())


def descend(
    estimator: Any,
    parameters: SgdClassifier | SgdRegressor,
    rows: Values,
    target: NDArray[Any],
    validation: tuple[Values, NDArray[Any]] | None,
    seed: int,
    on_epoch: OnEpoch = lambda done, total: None,
) -> Descent:
    """Fit an `SGDClassifier` or `SGDRegressor` by the mode of `parameters`.

    Stops when the train loss has not fallen by `tolerance` (relative to the first epoch's) for
    `patience` epochs. Raises `Invalid` when the coefficients grow past all bounds.
    """
    classes = np.unique(target) if isinstance(parameters, SgdClassifier) else None
    problem = _problem(parameters, rows, target, classes)
    held_out = validation and _problem(parameters, *validation, classes)
    epochs = _stochastic if parameters.mode == "stochastic" else _batches
    watch = _Watch(parameters)
    at_zero = problem.mean_loss(
        np.zeros((problem.targets.shape[1], rows.shape[1])), np.zeros(problem.targets.shape[1])
    )
    train_loss: list[float] = []
    validation_loss: list[float] = []
    for weights, intercept in epochs(estimator, parameters, problem, target, classes, seed, watch):
        train_loss.append(problem.mean_loss(weights, intercept))
        if held_out:
            validation_loss.append(held_out.mean_loss(weights, intercept))
        if not train_loss[-1] <= _DIVERGED * max(at_zero, train_loss[0]):
            raise Invalid(
                "diverged",
                "the descent diverged; lower 'eta0', or scale the features",
                field="algorithm.parameters.eta0",
            )
        on_epoch(len(train_loss), parameters.epochs)
        watch.see(train_loss[-1])
        if watch.stopped:
            break
    return Descent(estimator, train_loss, validation_loss, watch.stopped)


class _Watch:
    """Decides after each epoch whether to go on, and how `adaptive` lowers the rate."""

    def __init__(self, parameters: Sgd) -> None:
        self._adaptive = parameters.learning_rate == "adaptive"
        self._tolerance = parameters.tolerance
        self._patience = parameters.patience
        self._best = np.inf
        self._scale = 0.0
        self._stale = 0
        self.rate = 1.0
        self.stopped = False

    def see(self, value: float) -> None:
        self._scale = self._scale or max(abs(value), np.finfo(np.float64).tiny)
        self._stale = 0 if value < self._best - self._tolerance * self._scale else self._stale + 1
        self._best = min(self._best, value)
        if self._stale < self._patience:
            return
        if self._adaptive and self.rate > _SMALLEST_RATE:
            self.rate /= _FACTOR
            self._stale = 0
        else:
            self.stopped = True


def _problem(
    parameters: SgdClassifier | SgdRegressor,
    rows: Values,
    target: NDArray[Any],
    classes: NDArray[Any] | None,
) -> _Problem:
    if classes is None:
        targets = target.astype(np.float64)[:, None]
    elif len(classes) == 2:
        targets = np.where(target == classes[1], 1.0, -1.0)[:, None]
    else:
        targets = np.where(target[:, None] == classes[None, :], 1.0, -1.0)
    return _Problem(rows, targets, loss(parameters.loss), parameters.epsilon)


Epochs = Iterator[tuple[Values, Values]]


def _stochastic(
    estimator: Any,
    parameters: SgdClassifier | SgdRegressor,
    problem: _Problem,
    target: NDArray[Any],
    classes: NDArray[Any] | None,
    seed: int,
    watch: _Watch,
) -> Epochs:
    schedule = parameters.learning_rate or "inverse_scaling"
    eta0 = parameters.eta0 or _safe_rate(problem, parameters, 1)
    _set_up(estimator, parameters, _SCHEDULES.get(schedule, schedule), eta0)
    # partial_fit would shuffle every epoch by the same seed, that is into the same order.
    estimator.set_params(shuffle=False)
    order = np.random.default_rng(seed)
    known = {} if classes is None else {"classes": classes}
    for _ in range(parameters.epochs):
        rows = order.permutation(len(target))
        estimator.set_params(eta0=eta0 * watch.rate)
        estimator.partial_fit(problem.rows[rows], target[rows], **known)
        yield np.atleast_2d(estimator.coef_), np.atleast_1d(estimator.intercept_)


def _batches(
    estimator: Any,
    parameters: SgdClassifier | SgdRegressor,
    problem: _Problem,
    target: NDArray[Any],
    classes: NDArray[Any] | None,
    seed: int,
    watch: _Watch,
) -> Epochs:
    whole = parameters.mode == "batch"
    count = len(target)
    size = count if whole else min(parameters.batch_size or 32, count)
    # Equal steps end only where the loss is smooth; around a kink they must shrink.
    is_smooth = problem.loss.curvature is not None
    default = "constant" if whole and is_smooth else "inverse_scaling"
    schedule = parameters.learning_rate or default
    eta0 = parameters.eta0 or _safe_rate(problem, parameters, size)
    _set_up(estimator, parameters, _SCHEDULES.get(schedule, schedule), eta0)
    weights = np.zeros((problem.targets.shape[1], problem.rows.shape[1]))
    intercept = np.zeros(problem.targets.shape[1])
    order = np.random.default_rng(seed)
    updates = 0
    for _ in range(parameters.epochs):
        rows = np.arange(count) if whole else order.permutation(count)
        for start in range(0, count, size):
            updates += 1
            eta = watch.rate * _rate(schedule, eta0, parameters, updates)
            batch = rows[start : start + size]
            weights, intercept = _update(problem, batch, weights, intercept, eta, parameters)
        _publish(estimator, weights, intercept, classes, updates)
        yield weights, intercept


def _update(
    problem: _Problem,
    batch: NDArray[np.intp],
    weights: Values,
    intercept: Values,
    eta: float,
    parameters: Sgd,
) -> tuple[Values, Values]:
    rows = problem.rows[batch]
    slopes = problem.loss.slope(
        rows @ weights.T + intercept, problem.targets[batch], problem.epsilon
    ) / len(batch)
    l1, l2 = _penalties(parameters)
    weights = weights - eta * (slopes.T @ rows + l2 * weights)
    if l1:
        weights = np.sign(weights) * np.maximum(0.0, np.abs(weights) - eta * l1)
    return weights, intercept - eta * slopes.sum(axis=0)


def _penalties(parameters: Sgd) -> tuple[float, float]:
    """The weights of the L1 and of the L2 part."""
    share = {"none": 0.0, "l1": 1.0, "l2": 0.0}.get(parameters.penalty, parameters.l1_ratio)
    if parameters.penalty == "none":
        return 0.0, 0.0
    return parameters.alpha * share, parameters.alpha * (1.0 - share)


def _rate(schedule: str, eta0: float, parameters: Sgd, updates: int) -> float:
    if schedule == "inverse_scaling":
        return float(eta0 / updates**parameters.power_t)
    if schedule == "optimal":
        # Bottou's heuristic 1 / (alpha (t0 + t)), with t0 such that the first rate is eta0.
        alpha = max(parameters.alpha, 1e-12)
        return 1.0 / (1.0 / eta0 + alpha * updates)
    return eta0


def _safe_rate(problem: _Problem, parameters: Sgd, size: int) -> float:
    """1/L, L the curvature that updates of so many rows can be expected to meet.

    Between the largest eigenvalue for all rows and the longest row for one (Gower et al., "SGD:
    general analysis and improved rates", ICML 2019, proposition 3.8). A loss with a kink has no
    such bound; it counts as 1, and the schedule shrinks the steps.
    """
    rows = np.column_stack([problem.rows, np.ones(len(problem.rows))])
    count = len(rows)
    whole = float(np.linalg.norm(rows, 2)) ** 2 / count
    longest = float((rows**2).sum(axis=1).max())
    others = max(count - 1, 1)
    met = count * (size - 1) / (size * others) * whole + (count - size) / (size * others) * longest
    curvature = problem.loss.curvature or 1.0
    return 1.0 / (curvature * (met or whole) + _penalties(parameters)[1])


def _set_up(
    estimator: Any, parameters: SgdClassifier | SgdRegressor, schedule: str, eta0: float
) -> None:
    """Say in the estimator's own parameters how it was fitted."""
    penalty = {"none": None, "elastic_net": "elasticnet"}.get(
        parameters.penalty, parameters.penalty
    )
    estimator.set_params(
        loss=loss(parameters.loss).sklearn,
        penalty=penalty,
        alpha=parameters.alpha,
        l1_ratio=parameters.l1_ratio,
        epsilon=parameters.epsilon,
        learning_rate=schedule,
        eta0=eta0,
        power_t=parameters.power_t,
        max_iter=parameters.epochs,
        tol=parameters.tolerance,
        n_iter_no_change=parameters.patience,
    )


def _publish(
    estimator: Any,
    weights: Values,
    intercept: Values,
    classes: NDArray[Any] | None,
    updates: int,
) -> None:
    """Make the estimator a fitted one that carries these coefficients."""
    estimator.coef_ = weights.copy() if classes is not None else weights[0].copy()
    estimator.intercept_ = intercept.copy()
    estimator.n_features_in_ = weights.shape[1]
    estimator.t_ = float(updates + 1)
    estimator.n_iter_ = updates
    if classes is not None:
        estimator.classes_ = classes
