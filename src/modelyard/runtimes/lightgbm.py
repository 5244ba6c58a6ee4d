"""LightGBM boosters from their own text."""

from typing import Any

import numpy as np

from modelyard.bundle.bundle import Bundle
from modelyard.core.datatypes import Array
from modelyard.core.errors import Invalid, MissingExtra
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature
from modelyard.runtimes.answers import empty_outputs, from_scores
from modelyard.runtimes.lightgbm_file import check_lightgbm


class LightgbmRuntime:
    """A booster behind the runtime port. Takes one input `[-1, n]`, NaN meaning missing."""

    def __init__(self, booster: Any, signature: Signature, threads: int = 1) -> None:
        self._booster = booster
        self._signature = signature
        self._threads = threads
        self._input = signature.inputs[0].name

    @property
    def signature(self) -> Signature:
        """What it takes and gives."""
        return self._signature

    def run(self, inputs: Arrays) -> dict[str, Array]:
        """One prediction."""
        features = inputs[self._input]
        if len(features) == 0:
            return empty_outputs(self._signature)
        scores = self._booster.predict(features, num_threads=self._threads)
        return from_scores(self._signature, np.asarray(scores))

    def close(self) -> None:
        """Nothing is held beyond memory."""


def objective_of(booster: Any) -> str:
    """The name of the objective, such as `binary` or `regression`."""
    for line in booster.model_to_string(num_iteration=1).splitlines():
        if line.startswith("objective="):
            return str(line.removeprefix("objective=").split(" ")[0])
    return "custom"


def class_count(booster: Any) -> int:
    """How many classes the booster tells apart; 0 for a regression."""
    objective = objective_of(booster)
    if objective == "binary":
        return 2
    if objective in ("multiclass", "multiclassova"):
        return int(booster.num_model_per_iteration())
    return 0


def open_lightgbm(bundle: Bundle, threads: int) -> LightgbmRuntime:
    """The runtime of a bundle whose serving file is LightGBM's text."""
    booster = load_booster(bundle.read(bundle.manifest.serving.path))
    return LightgbmRuntime(booster, bundle.manifest.signature, threads)


def load_booster(data: bytes) -> Any:
    """A booster from the bytes of a text model; raises `Invalid`."""
    try:
        import lightgbm
    except ImportError:
        raise MissingExtra("lightgbm", "a LightGBM model") from None
    text = check_lightgbm(data)
    try:
        return lightgbm.Booster(model_str=text)
    except Exception as error:  # noqa: BLE001 - any failure to read hostile bytes is a refusal
        raise Invalid("bad_lightgbm", f"LightGBM cannot open this model: {error!s:.200}") from None
