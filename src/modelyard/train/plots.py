"""Draws the evaluation as SVG: the same numbers give the same bytes."""

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray
from sklearn.metrics import roc_curve

from modelyard.bundle.manifest import Confusion
from modelyard.train.curves import Curve
from modelyard.train.evaluation import Answers

FOLDER = "evaluation"
_MOST_DOTS = 2000
_MOST_BARS = 20
_STYLE: Any = {
    # A fixed salt makes the ids inside the file, and so its digest, depend on the picture alone.
    "svg.hashsalt": "modelyard",
    "svg.fonttype": "none",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_BLUE, _ORANGE, _GREY = "#2563eb", "#ea580c", "#9ca3af"


def draw(
    answers: Answers,
    part: str,
    *,
    confusion: Confusion | None,
    classes: NDArray[Any] | None,
    positive: object,
    curve: Curve | None,
    importances: Mapping[str, float],
) -> dict[str, bytes]:
    """SVG files by their path in the bundle; `part` names the data that the answers are about."""
    plots: dict[str, Callable[[Axes], None]] = {}
    if classes is not None:
        if confusion is not None:
            plots["confusion-matrix"] = lambda axes: _confusion(axes, confusion, part)
        if roc := _roc(answers, classes, positive):
            plots["roc-curve"] = lambda axes: _roc_curves(axes, roc, part)
    else:
        plots["predicted-vs-actual"] = lambda axes: _predicted(axes, answers, part)
        plots["residuals"] = lambda axes: _residuals(axes, answers, part)
    if curve is not None:
        plots["learning-curve"] = lambda axes: _learning(axes, curve)
    if importances:
        plots["feature-importance"] = lambda axes: _importance(axes, importances)
    return {f"{FOLDER}/{name}.svg": _svg(paint) for name, paint in plots.items()}


def _svg(paint: Callable[[Axes], None]) -> bytes:
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(6.0, 4.5), layout="constrained")
        FigureCanvasSVG(figure)
        paint(figure.add_subplot())
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": "Modelyard"})
        return buffer.getvalue()


def _confusion(axes: Axes, confusion: Confusion, part: str) -> None:
    matrix = np.asarray(confusion.matrix)
    axes.imshow(matrix, cmap="Blues")
    places = range(len(confusion.labels))
    names = [_short(label) for label in confusion.labels]
    axes.set_xticks(places, names, rotation=45 if len(names) > 4 else 0)
    axes.set_yticks(places, names)
    if len(names) <= 20:
        dark = matrix.max() / 2
        for i in places:
            for j in places:
                colour = "white" if matrix[i, j] > dark else "black"
                axes.text(j, i, str(matrix[i, j]), ha="center", va="center", color=colour)
    axes.set(xlabel="predicted", ylabel="actual", title=f"Confusion matrix, {part}")


Roc = Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]]


def _roc(answers: Answers, classes: NDArray[Any], positive: object) -> Roc:
    """One curve for two classes, one a class for more; classes without rows have none."""
    ranks: list[tuple[object, NDArray[np.float64]]] = []
    if len(classes) == 2 and answers.ranking is not None:
        ranks.append((positive, answers.ranking))
    elif answers.probabilities is not None:
        ranks += zip(classes[:10], answers.probabilities.T, strict=False)
    curves = []
    for label, rank in ranks:
        actual = answers.target == label
        if 0 < actual.sum() < len(actual):
            false, true, _ = roc_curve(actual, rank)
            curves.append((_short(str(label)), false, true))
    return curves


def _roc_curves(axes: Axes, curves: Roc, part: str) -> None:
    for label, false, true in curves:
        axes.plot(false, true, label=label)
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle=":")
    axes.legend(title="class", loc="lower right")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", title=f"ROC curve, {part}")


def _predicted(axes: Axes, answers: Answers, part: str) -> None:
    actual, said = answers.target[:_MOST_DOTS], answers.predictions[:_MOST_DOTS]
    ends = [min(actual.min(), said.min()), max(actual.max(), said.max())]
    axes.scatter(actual, said, s=12, color=_BLUE, alpha=0.5, linewidths=0)
    axes.plot(ends, ends, color=_GREY, linestyle=":")
    axes.set(xlabel="actual", ylabel="predicted", title=f"Predicted against actual, {part}")


def _residuals(axes: Axes, answers: Answers, part: str) -> None:
    said = answers.predictions[:_MOST_DOTS]
    axes.scatter(
        said, answers.target[:_MOST_DOTS] - said, s=12, color=_BLUE, alpha=0.5, linewidths=0
    )
    axes.axhline(0.0, color=_GREY, linestyle=":")
    axes.set(xlabel="predicted", ylabel="actual - predicted", title=f"Residuals, {part}")


def _learning(axes: Axes, curve: Curve) -> None:
    axes.plot(curve.at, curve.train, color=_BLUE, label="train")
    if curve.validation:
        axes.plot(curve.at, curve.validation, color=_ORANGE, label="validation")
    axes.legend()
    axes.set(xlabel=curve.unit, ylabel=curve.loss, title="Learning curve")


def _importance(axes: Axes, importances: Mapping[str, float]) -> None:
    top = sorted(importances.items(), key=lambda item: (-item[1], item[0]))[:_MOST_BARS][::-1]
    axes.barh([_short(name) for name, _ in top], [value for _, value in top], color=_BLUE)
    axes.set(xlabel="importance", title="Feature importance")


def _short(label: str) -> str:
    # A lone dollar sign would begin a formula.
    return (label if len(label) <= 24 else f"{label[:23]}…").replace("$", r"\$")
