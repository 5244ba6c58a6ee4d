"""LightGBM models at rest: LightGBM's own text."""

from typing import Any

import numpy as np

from modelyard.bundle.manifest import Format
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid
from modelyard.core.signature import Signature
from modelyard.packaging.native import Native
from modelyard.runtimes.features import takes_numbers
from modelyard.runtimes.lightgbm import LightgbmRuntime, class_count, load_booster, objective_of

PATH = "model.txt"
PACKAGES = ("lightgbm", "scikit-learn", "onnxmltools", "onnx")


def is_estimator(model: object) -> bool:
    """Whether it is one of LightGBM's scikit-learn estimators, itself or with labels encoded."""
    inner = getattr(model, "estimator_", model)
    return type(inner).__module__ == "lightgbm.sklearn"


def is_booster(model: object) -> bool:
    """Whether it is a bare LightGBM booster."""
    return type(model).__module__ == "lightgbm.basic" and type(model).__name__ == "Booster"


def from_estimator(model: Any, signature: Signature) -> Native | None:
    """The booster of an estimator over numbers; None where the estimator does more than that."""
    inner = getattr(model, "estimator_", model)
    booster = inner.booster_
    if not takes_numbers(signature) or booster.pandas_categorical:
        return None
    return from_booster(booster, signature)


def from_booster(booster: Any, signature: Signature) -> Native:
    """A booster as its text, with its best rounds only where early stopping chose them."""
    data = booster.model_to_string().encode()
    return Native(Format.LIGHTGBM, PATH, data, LightgbmRuntime(load_booster(data), signature))


def describe(booster: Any) -> tuple[list[str] | None, int, int]:
    """Feature names, the number of features, and of classes."""
    if booster.pandas_categorical:
        raise Invalid(
            "unsupported_features",
            "this booster takes categories by their codes; publish its estimator in a pipeline "
            "with an encoder instead",
        )
    names = [str(name) for name in booster.feature_name()]
    if all(name == f"Column_{index}" for index, name in enumerate(names)):
        return None, booster.num_feature(), class_count(booster)
    return names, booster.num_feature(), class_count(booster)


def as_estimator(booster: Any, classes: int) -> Any:
    """The booster in scikit-learn's clothes, for the converter."""
    import lightgbm

    estimator = lightgbm.LGBMClassifier() if classes else lightgbm.LGBMRegressor()
    estimator._Booster = booster
    estimator._objective = objective_of(booster)
    estimator.fitted_ = True
    if classes:
        estimator._classes, estimator._n_classes = np.arange(classes), classes
    return estimator


def split_values(booster: Any, features: int) -> list[Array]:
    """The values at which the trees cut each feature."""
    frame = booster.trees_to_dataframe()
    names = booster.feature_name()
    return [
        frame.loc[frame["split_feature"] == names[index], "threshold"].to_numpy(np.float64)
        for index in range(features)
    ]
