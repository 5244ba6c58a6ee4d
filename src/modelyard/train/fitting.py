"""Fits the pipeline of a recipe on the train part."""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.pipeline import Pipeline

from modelyard.core.errors import Invalid, ModelyardError
from modelyard.train.algorithms import (
    Algorithm,
    Parameters,
    SgdClassifier,
    SgdRegressor,
    SvmClassifier,
    Task,
)
from modelyard.train.curves import Curve, descent_curve, learning_curve
from modelyard.train.descent import descend
from modelyard.train.preparing import preparer
from modelyard.train.progress import Progress
from modelyard.train.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Rows:
    """One part of the data: raw features by name, and what they should tell."""

    features: pd.DataFrame
    target: NDArray[Any]


@dataclass(frozen=True, slots=True)
class Fitted:
    """A pipeline from raw features to answers, how its loss fell, and what was odd."""

    pipeline: Pipeline
    curve: Curve | None
    notes: list[str]


def target_values(target: pd.Series) -> NDArray[Any]:
    """The target as estimators take it: text as an object array of str."""
    return target.to_numpy(object if target.dtype.kind not in "ifb" else None)


def fit(
    recipe: Recipe,
    chosen: Algorithm,
    task: Task,
    parameters: Parameters,
    everything: pd.DataFrame,
    train: Rows,
    validation: Rows | None,
    progress: Progress,
) -> Fitted:
    """The fitted pipeline. `everything` is the features of all parts: what columns are like.

    Raises `Invalid` for parameters that the framework refuses together.
    """
    head = preparer(everything, recipe.clean.missing, recipe.prepare, chosen)
    estimator = chosen.form(task).build(parameters, recipe.split.seed)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            rows: Any = train.features if head is None else head.fit_transform(train.features)
            seen = validation and Rows(
                validation.features if head is None else head.transform(validation.features),
                validation.target,
            )
            prepared = Rows(rows, train.target)
            estimator, curve, notes = _fit(
                estimator, chosen, task, parameters, prepared, seen, recipe, progress
            )
            steps = [] if head is None else [("prepare", head)]
            pipeline = Pipeline([*steps, ("model", estimator)])
            # Some estimators find out only when asked that they were given the impossible.
            pipeline.predict(train.features.head(1))
        except (ModelyardError, MemoryError):
            raise
        except Exception as error:
            raise Invalid(
                "fit_failed",
                f"'{chosen.name}' cannot be fitted: {str(error).strip().splitlines()[0]:.400}",
                field="algorithm",
            ) from error
    notes += sorted({_sentence(each) for each in caught})
    return Fitted(pipeline, curve, notes)


def _fit(
    estimator: Any,
    chosen: Algorithm,
    task: Task,
    parameters: Parameters,
    train: Rows,
    validation: Rows | None,
    recipe: Recipe,
    progress: Progress,
) -> tuple[Any, Curve | None, list[str]]:
    if isinstance(parameters, SgdClassifier | SgdRegressor):
        return _descend(estimator, parameters, train, validation, recipe, progress)
    if isinstance(parameters, SvmClassifier) and parameters.probability:
        estimator = CalibratedClassifierCV(estimator, ensemble=False)
    if chosen.wants_codes and task == "classification" and not _are_codes(train.target):
        from modelyard.packaging.labels import LabelledClassifier

        estimator = LabelledClassifier(estimator)
    estimator.fit(train.features, train.target)
    curve = learning_curve(
        estimator,
        (train.features, train.target),
        (validation.features, validation.target) if validation else None,
    )
    return estimator, curve, []


def _descend(
    estimator: Any,
    parameters: SgdClassifier | SgdRegressor,
    train: Rows,
    validation: Rows | None,
    recipe: Recipe,
    progress: Progress,
) -> tuple[Any, Curve | None, list[str]]:
    descent = descend(
        estimator,
        parameters,
        np.asarray(train.features, np.float64),
        train.target,
        (np.asarray(validation.features, np.float64), validation.target) if validation else None,
        recipe.split.seed,
        progress.advance,
    )
    notes = []
    if not descent.converged:
        notes.append(
            f"the loss was still falling after {parameters.epochs} epochs; more may do better"
        )
    return descent.estimator, descent_curve(descent), notes


def _are_codes(target: NDArray[Any]) -> bool:
    if target.dtype.kind != "i":
        return False
    classes = np.unique(target)
    return bool((classes == np.arange(len(classes))).all())


def _sentence(warning: warnings.WarningMessage) -> str:
    first = " ".join(str(warning.message).split("\n\n")[0].split())
    return f"{warning.category.__name__}: {first:.200}"
