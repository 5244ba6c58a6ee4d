"""Scores a fitted model on each part of the data."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics as measures

from modelyard.bundle.manifest import Confusion, Score
from modelyard.core.errors import Invalid
from modelyard.train.algorithms import Task
from modelyard.train.curves import mean_log_loss
from modelyard.train.fitting import Rows
from modelyard.train.hints import quoted
from modelyard.train.metrics import metrics_of
from modelyard.train.recipe import Part

_MOST_CLASSES = 100
"""A confusion matrix of more is nothing to look at, and would swell the manifest."""


@dataclass(frozen=True, slots=True)
class Answers:
    """What the model said to one part: labels or values, and where it has them probabilities.

    `ranking` orders rows by how much they look like the positive class of two.
    """

    target: NDArray[Any]
    predictions: NDArray[Any]
    probabilities: NDArray[np.float64] | None = None
    ranking: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """Scores by part, the answers they are of, and why any metric is missing from them."""

    scores: tuple[Score, ...]
    answers: Mapping[Part, Answers]
    reasons: Mapping[tuple[Part, str], str]

    @property
    def notes(self) -> list[str]:
        """The reasons in sentences, one for all the parts that share it."""
        parts: dict[tuple[str, str], list[str]] = {}
        for (part, metric), why in self.reasons.items():
            parts.setdefault((metric, why), []).append(part)
        return [
            f"no {metric} on {', '.join(names)}: {why}" for (metric, why), names in parts.items()
        ]


def ask(model: Any, rows: Rows, task: Task, positive: object) -> Answers:
    """The model's answers to one part."""
    predictions = np.asarray(model.predict(rows.features))
    if task == "regression":
        return Answers(rows.target, predictions.reshape(-1))
    probabilities = ranking = None
    if hasattr(model, "predict_proba"):
        probabilities = np.asarray(model.predict_proba(rows.features), np.float64)
    if len(model.classes_) == 2:
        sign = 1.0 if model.classes_[1] == positive else -1.0
        if probabilities is not None:
            ranking = sign * probabilities[:, 1]
        elif hasattr(model, "decision_function"):
            ranking = sign * np.asarray(model.decision_function(rows.features))
    return Answers(rows.target, predictions, probabilities, ranking)


def evaluate(
    model: Any,
    parts: Mapping[Part, Rows],
    task: Task,
    wanted: Sequence[str] = (),
    positive: object = None,
) -> Report:
    """Score every part by the metrics wanted (none named: all of the task that can be had).

    Precision, recall and F1 are those of the class `positive` where there are two classes, and
    the plain mean over classes (macro) where there are more; ROC-AUC of more than two classes is
    the macro mean of each against the rest. A metric that the part or the model cannot give is
    left out, and the report says why.
    """
    names = wanted or metrics_of(task)
    scores: list[Score] = []
    answers: dict[Part, Answers] = {}
    reasons: dict[tuple[Part, str], str] = {}
    for part, rows in parts.items():
        answers[part] = given = ask(model, rows, task, positive)
        classes = None if task == "regression" else model.classes_
        values: dict[str, float] = {}
        for name in names:
            try:
                value = (
                    _value(name, given)
                    if classes is None
                    else _class_metric(name, given, classes, positive)
                )
            except _Unmeasurable as error:
                reasons[part, name] = str(error)
            else:
                values[name] = float(value)
        confusion = None if classes is None else _confusion(given, classes)
        scores.append(
            Score(dataset=part, rows=len(given.target), metrics=values, confusion=confusion)
        )
    return Report(tuple(scores), answers, reasons)


def positive_class(classes: NDArray[Any], asked: object) -> object:
    """The class that a binary classifier's precision is about: the one asked for, or the last."""
    if len(classes) != 2:
        return None
    if asked is None:
        return classes[1]
    for each in classes:
        if each == asked or str(each) == str(asked):
            return each
    raise Invalid(
        "no_such_class",
        f"'positive' is '{asked}', and the classes are {quoted(list(classes))}",
        field="positive",
    )


class _Unmeasurable(Exception):
    """Says why a metric cannot be had; never leaves this module."""


def _value(name: str, given: Answers) -> float:
    target, said = given.target, given.predictions
    if name == "r2":
        if len(target) < 2:
            raise _Unmeasurable("one row has no variance")
        return float(measures.r2_score(target, said))
    if name == "mae":
        return float(measures.mean_absolute_error(target, said))
    squared = float(measures.mean_squared_error(target, said))
    return squared if name == "mse" else squared**0.5


def _class_metric(name: str, given: Answers, classes: NDArray[Any], positive: object) -> float:
    if name == "accuracy":
        return float(measures.accuracy_score(given.target, given.predictions))
    if name == "roc_auc":
        return _roc_auc(given, classes, positive)
    if name == "log_loss":
        if given.probabilities is None:
            raise _Unmeasurable("the model gives no probabilities")
        if not np.isin(given.target, classes).all():
            raise _Unmeasurable("there are classes that training never saw")
        return mean_log_loss(given.target, given.probabilities, classes)
    index = ("precision", "recall", "f1").index(name)
    kind = (
        {"average": "macro"} if positive is None else {"average": "binary", "pos_label": positive}
    )
    if positive is not None and not np.isin(given.target, classes).all():
        raise _Unmeasurable("there are classes that training never saw")
    found = measures.precision_recall_fscore_support(
        given.target, given.predictions, zero_division=0.0, **kind
    )
    return float(found[index])


def _roc_auc(given: Answers, classes: NDArray[Any], positive: object) -> float:
    present = np.unique(given.target)
    if len(present) != len(classes) or (present != classes).any():
        absent = [each for each in classes if each not in present]
        raise _Unmeasurable(
            f"no row is of class {quoted(absent)}" if absent else "there are unknown classes"
        )
    if len(classes) == 2:
        if given.ranking is None:
            raise _Unmeasurable("the model does not rank rows")
        return float(measures.roc_auc_score(given.target == positive, given.ranking))
    if given.probabilities is None:
        raise _Unmeasurable("the model gives no probabilities")
    exact = given.probabilities / given.probabilities.sum(axis=1, keepdims=True)
    return float(
        measures.roc_auc_score(
            given.target, exact, multi_class="ovr", average="macro", labels=classes
        )
    )


def _confusion(given: Answers, classes: NDArray[Any]) -> Confusion | None:
    labels = sorted({*classes.tolist(), *given.target.tolist()})
    if len(labels) > _MOST_CLASSES:
        return None
    matrix = measures.confusion_matrix(given.target, given.predictions, labels=labels)
    return Confusion(
        tuple(str(label) for label in labels), tuple(tuple(row) for row in matrix.tolist())
    )
