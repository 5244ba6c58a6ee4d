"""The losses of linear models by their textbook names, and their slopes.

`margin` is what the linear model says, w·x + b; `target` is -1 or +1 for the losses of classes,
the value itself for the others. Definitions as in Hastie, Tibshirani, Friedman, "The Elements of
Statistical Learning", 2nd ed., chapters 10.6 and 12.3; modified Huber as in Zhang, "Solving large
scale linear prediction problems using stochastic gradient descent algorithms" (ICML 2004).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss, its slope by `margin`, and the most that the slope changes (None: no bound).

    `sklearn` is what scikit-learn calls it. Both functions take `(margin, target, epsilon)`.
    """

    sklearn: str
    value: Callable[[Values, Values, float], Values]
    slope: Callable[[Values, Values, float], Values]
    curvature: float | None


def _log_loss(p: Values, y: Values, _: float) -> Values:
    return np.logaddexp(0.0, -p * y)


def _log_loss_slope(p: Values, y: Values, _: float) -> Values:
    # -y / (1 + exp(yp)), written so that no exponential overflows.
    return -y * np.exp(-np.logaddexp(0.0, p * y))


def _squared_error(p: Values, y: Values, _: float) -> Values:
    return 0.5 * (p - y) ** 2


def _huber(p: Values, y: Values, epsilon: float) -> Values:
    size = np.abs(p - y)
    return np.where(size <= epsilon, 0.5 * size**2, epsilon * size - 0.5 * epsilon**2)


def _modified_huber(p: Values, y: Values, _: float) -> Values:
    z = p * y
    return np.where(z >= -1.0, np.maximum(0.0, 1.0 - z) ** 2, -4.0 * z)


def _modified_huber_slope(p: Values, y: Values, _: float) -> Values:
    z = p * y
    return np.where(z >= -1.0, -2.0 * y * np.maximum(0.0, 1.0 - z), -4.0 * y)


def _beyond(p: Values, y: Values, epsilon: float) -> Values:
    """How far the error reaches beyond the tube, with its sign."""
    error = p - y
    return np.sign(error) * np.maximum(0.0, np.abs(error) - epsilon)


LOSSES: Mapping[str, Loss] = {
    "log_loss": Loss("log_loss", _log_loss, _log_loss_slope, 0.25),
    "hinge": Loss(
        "hinge",
        lambda p, y, _: np.maximum(0.0, 1.0 - p * y),
        lambda p, y, _: np.where(p * y < 1.0, -y, 0.0),
        None,
    ),
    "squared_hinge": Loss(
        "squared_hinge",
        lambda p, y, _: np.maximum(0.0, 1.0 - p * y) ** 2,
        lambda p, y, _: -2.0 * y * np.maximum(0.0, 1.0 - p * y),
        2.0,
    ),
    "modified_huber": Loss("modified_huber", _modified_huber, _modified_huber_slope, 2.0),
    "perceptron": Loss(
        "perceptron",
        lambda p, y, _: np.maximum(0.0, -p * y),
        lambda p, y, _: np.where(p * y <= 0.0, -y, 0.0),
        None,
    ),
    "squared_error": Loss("squared_error", _squared_error, lambda p, y, _: p - y, 1.0),
    "huber": Loss("huber", _huber, lambda p, y, epsilon: np.clip(p - y, -epsilon, epsilon), 1.0),
    "epsilon_insensitive": Loss(
        "epsilon_insensitive",
        lambda p, y, epsilon: np.abs(_beyond(p, y, epsilon)),
        lambda p, y, epsilon: np.sign(_beyond(p, y, epsilon)),
        None,
    ),
    "squared_epsilon_insensitive": Loss(
        "squared_epsilon_insensitive",
        lambda p, y, epsilon: _beyond(p, y, epsilon) ** 2,
        lambda p, y, epsilon: 2.0 * _beyond(p, y, epsilon),
        2.0,
    ),
}
SYNONYMS: Mapping[str, str] = {"mean_squared_error": "squared_error", "cross_entropy": "log_loss"}


def loss(name: str) -> Loss:
    """The loss of that name, or of the name it is a synonym of."""
    return LOSSES[SYNONYMS.get(name, name)]
