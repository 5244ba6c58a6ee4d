"""XGBoost boosters from their own JSON or UBJSON."""

import json
from typing import Any

import numpy as np

from modelyard.bundle.bundle import Bundle
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid, MissingExtra
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature
from modelyard.runtimes.answers import empty_outputs, from_scores
from modelyard.runtimes.xgboost_file import check_xgboost

BINARY = ("binary:logistic", "binary:logitraw", "binary:hinge")
MULTICLASS = ("multi:softprob", "multi:softmax")


class XgboostRuntime:
    """A booster behind the runtime port. Takes one input `[-1, n]`, NaN meaning missing."""

    def __init__(self, booster: Any, signature: Signature) -> None:
        self._booster = booster
        self._signature = signature
        self._input = signature.inputs[0].name
        self._objective = objective_of(booster)
        self._is_linear = _learner(booster)["gradient_booster"]["name"] == "gblinear"

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One prediction without a copy of the features."""
        features = inputs[self._input]
        if len(features) == 0:
            return empty_outputs(self._signature)
        return from_scores(self._signature, self._scores(features))

    def _scores(self, features: Array) -> Array:
        if self._objective == "multi:softmax":
            # This objective answers labels; the margins still hold the probabilities.
            return _softmax(self._predict(features, "margin"))
        scores = self._predict(features, "value")
        if self._objective == "binary:logitraw":
            return np.asarray(1 / (1 + np.exp(-scores)), np.float32)
        return scores

    def _predict(self, features: Array, kind: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        if self._is_linear:
            # Linear boosters cannot predict in place.
            return self._predict_linear(features, kind)
        values = self._booster.inplace_predict(
            features, predict_type=kind, validate_features=False, strict_shape=False
        )
        return np.asarray(values)

    def _predict_linear(self, features: Array, kind: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        import xgboost

        matrix = xgboost.DMatrix(features, feature_names=self._booster.feature_names)
        return np.asarray(self._booster.predict(matrix, output_margin=kind == "margin"))

    def close(self) -> None:
        """Nothing is held beyond memory."""


def _softmax(margins: np.ndarray[Any, np.dtype[np.float32]]) -> Array:
    raised = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True))


def objective_of(booster: Any) -> str:
    """The name of the objective, such as `binary:logistic`."""
    return str(_learner(booster)["objective"]["name"])


def _learner(booster: Any) -> dict[str, Any]:
    learner: dict[str, Any] = json.loads(booster.save_config())["learner"]
    return learner


def class_count(booster: Any) -> int:
    """How many classes the booster tells apart; 0 for a regression."""
    objective = objective_of(booster)
    if objective in BINARY:
        return 2
    if objective in MULTICLASS:
        return int(_learner(booster)["learner_model_param"]["num_class"])
    return 0


def open_xgboost(bundle: Bundle, threads: int) -> XgboostRuntime:
    """The runtime of a bundle whose serving file is XGBoost's."""
    booster = load_booster(bundle.read(bundle.manifest.serving.path), threads=threads)
    return XgboostRuntime(booster, bundle.manifest.signature)


def load_booster(data: bytes, *, threads: int = 1) -> Any:
    """A booster from JSON or UBJSON bytes; raises `Invalid`."""
    try:
        import xgboost
    except ImportError:
        raise MissingExtra("xgboost", "an XGBoost model") from None
    if data[:1] != b"{":
        # Anything else would be read as the old binary format, which is not checked by its reader.
        raise Invalid("bad_xgboost", "this is no XGBoost JSON or UBJSON model")
    check_xgboost(data)
    try:
        return xgboost.Booster({"nthread": threads}, model_file=bytearray(data))
    except Exception as error:  # noqa: BLE001 - any failure to read hostile bytes is a refusal
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise Invalid("bad_xgboost", f"XGBoost cannot open this model: {reason[0]:.200}") from None
