"""XGBoost models at rest: XGBoost's own JSON."""

from typing import Any

import numpy as np

from modelyard.bundle.manifest import Format
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid
from modelyard.core.signature import Signature
from modelyard.packaging.native import Native
from modelyard.runtimes.features import takes_numbers
from modelyard.runtimes.xgboost import XgboostRuntime, class_count, load_booster, objective_of

PATH = "model.json"
PACKAGES = ("xgboost", "xgboost-cpu", "scikit-learn", "onnxmltools", "onnx")
_DISTRIBUTIONS = ("xgboost", "xgboost-cpu")


def is_estimator(model: object) -> bool:
    """Whether it is one of XGBoost's scikit-learn estimators, itself or with its labels encoded."""
    inner = getattr(model, "estimator_", model)
    return type(inner).__module__ == "xgboost.sklearn"


def is_booster(model: object) -> bool:
    """Whether it is a bare XGBoost booster."""
    return type(model).__module__ == "xgboost.core" and type(model).__name__ == "Booster"


def from_estimator(model: Any, signature: Signature) -> Native | None:
    """The booster of an estimator over numbers; None where the estimator does more than that."""
    inner = getattr(model, "estimator_", model)
    if not takes_numbers(signature) or not np.isnan(inner.missing):
        return None
    booster = inner.get_booster()
    if booster.attr("best_iteration") is not None:
        # The estimator predicts with its best rounds only, a bare booster with all.
        booster = booster[: int(booster.attr("best_iteration")) + 1]
    return from_booster(booster, signature)


def from_booster(booster: Any, signature: Signature) -> Native:
    """A booster as its JSON."""
    data = bytes(booster.save_raw("json"))
    return Native(Format.XGBOOST, PATH, data, XgboostRuntime(load_booster(data), signature))


def describe(booster: Any) -> tuple[list[str] | None, int, int]:
    """Feature names where the booster knows them, the number of features, and of classes."""
    objective = objective_of(booster)
    if objective.startswith("survival:"):
        raise Invalid(
            "unsupported_objective", f"Modelyard does not serve the objective {objective}"
        )
    if any(kind == "c" for kind in booster.feature_types or ()):
        raise Invalid(
            "unsupported_features",
            "this booster takes categories by their codes; publish its estimator in a pipeline "
            "with an encoder instead",
        )
    return booster.feature_names, booster.num_features(), class_count(booster)


def as_estimator(booster: Any, classes: int) -> Any:
    """The booster in scikit-learn's clothes, for the converter."""
    import xgboost

    estimator = xgboost.XGBClassifier() if classes else xgboost.XGBRegressor()
    estimator.load_model(bytearray(booster.save_raw("json")))
    return estimator


def split_values(booster: Any, features: int) -> list[Array]:
    """The values at which the trees cut each feature."""
    table = booster.copy()
    table.feature_names = None
    frame = table.trees_to_dataframe()
    return [
        frame.loc[frame["Feature"] == f"f{index}", "Split"].to_numpy(np.float64)
        for index in range(features)
    ]
