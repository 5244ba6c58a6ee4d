"""How much each column matters to a fitted pipeline, where the estimator says so for free."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline

from modelyard.train.curves import unwrapped
from modelyard.train.preparing import feature_names


def importances(pipeline: Pipeline, columns: Sequence[str]) -> dict[str, float]:
    """By name of the prepared column: a tree's own importance, or the size of a coefficient.

    Empty for estimators that have neither (k-NN, kernels, networks).
    """
    head = pipeline.named_steps.get("prepare")
    model: Any = unwrapped(pipeline.named_steps["model"])
    found = getattr(model, "feature_importances_", None)
    if found is None:
        coefficients = getattr(model, "coef_", None)
        if coefficients is None:
            return {}
        found = np.abs(np.atleast_2d(coefficients)).mean(axis=0)
    names = feature_names(head, columns)
    if len(names) != len(found):
        return {}
    return {name: float(value) for name, value in zip(names, found, strict=True)}
