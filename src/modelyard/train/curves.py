"""Learning curves: how the loss fell, epoch by epoch or tree by tree, where the model knows."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import log_loss, mean_squared_error

from modelyard.train.descent import Descent

_POINTS = 25
_MOST_ROWS = 5_000
"""A curve is for the eye; measuring it shall not take longer than fitting."""

Data = tuple[Any, NDArray[Any]]


def unwrapped(estimator: Any) -> Any:
    """The estimator that learnt, inside the one that only translates its labels."""
    from modelyard.packaging.labels import LabelledClassifier

    return estimator.estimator_ if isinstance(estimator, LabelledClassifier) else estimator


def mean_log_loss(
    target: NDArray[Any], probabilities: NDArray[Any], classes: NDArray[Any]
) -> float:
    """The mean log-loss; single-precision probabilities are first made to sum to one exactly."""
    exact = np.asarray(probabilities, np.float64)
    exact = exact / exact.sum(axis=1, keepdims=True)
    return float(log_loss(target, exact, labels=classes))


class Curve(msgspec.Struct, frozen=True):
    """The mean loss after so many `unit`s; `validation` is empty where it was not measured."""

    unit: str
    loss: str
    at: list[int]
    train: list[float]
    validation: list[float] = []


def descent_curve(descent: Descent) -> Curve:
    """The curve of a gradient descent, every epoch of it."""
    at = list(range(1, len(descent.train_loss) + 1))
    return Curve("epoch", "mean loss", at, descent.train_loss, descent.validation_loss)


def learning_curve(estimator: Any, train: Data, validation: Data | None) -> Curve | None:
    """The curve of a fitted estimator, measured after the fact; None where it has no stages."""
    inner = unwrapped(estimator)
    if isinstance(losses := getattr(inner, "loss_curve_", None), list):
        return Curve(
            "epoch", "mean loss", list(range(1, len(losses) + 1)), list(map(float, losses))
        )
    stages = _STAGES.get(type(inner).__module__.partition(".")[0])
    if stages is None:
        return None
    classes = getattr(estimator, "classes_", None)
    at: list[int] = []
    curves: list[list[float]] = [[], []]
    for curve, data in zip(curves, (train, validation), strict=True):
        if data is not None:
            measured = [
                (n, _loss(answer, data[1], classes)) for n, answer in stages(inner, data[0])
            ]
            at = [count for count, _ in measured]
            curve += [value for _, value in measured]
    return (
        Curve("trees", "squared error" if classes is None else "log-loss", at, *curves)
        if at
        else None
    )


def _loss(answers: NDArray[Any], target: NDArray[Any], classes: NDArray[Any] | None) -> float:
    if classes is None:
        return float(mean_squared_error(target, answers))
    # A class that only the validation part has cannot be scored by a model that never saw it.
    known = np.isin(target, classes)
    return mean_log_loss(target[known], answers[known], classes)


def _thinned(data: Data) -> Data:
    """Every so-manieth row, evenly over all of them."""
    rows, target = data
    step = -(-len(target) // _MOST_ROWS)
    return rows[::step], target[::step]


def _grid(total: int) -> list[int]:
    return sorted({int(each) for each in np.linspace(1, total, min(total, _POINTS)).round()})


Stages = Iterator[tuple[int, NDArray[Any]]]


def _xgboost(model: Any, rows: Any) -> Stages:
    predict = getattr(model, "predict_proba", model.predict)
    for count in _grid(model.get_booster().num_boosted_rounds()):
        yield count, predict(rows, iteration_range=(0, count))


def _lightgbm(model: Any, rows: Any) -> Stages:
    predict = getattr(model, "predict_proba", model.predict)
    for count in _grid(model.booster_.current_iteration()):
        yield count, predict(rows, num_iteration=count)


def _sklearn(model: Any, rows: Any) -> Stages:
    staged = getattr(model, "staged_predict_proba", getattr(model, "staged_predict", None))
    if staged is not None and hasattr(model, "n_iter_"):
        grid = set(_grid(model.n_iter_))
        yield from ((n, answer) for n, answer in enumerate(staged(rows), 1) if n in grid)


_STAGES: Mapping[str, Callable[[Any, Any], Stages]] = {
    "xgboost": _xgboost,
    "lightgbm": _lightgbm,
    "sklearn": _sklearn,
}
