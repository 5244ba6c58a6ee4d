"""Bare XGBoost and LightGBM boosters: no scikit-learn estimator around them, maybe no sample."""

from types import ModuleType
from typing import Any, Final

import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import FREE, Column, Signature, TensorSpec
from modelyard.core.table import LABEL, PREDICTION, PROBABILITIES
from modelyard.packaging import lightgbm, xgboost
from modelyard.packaging.native import Native
from modelyard.packaging.signature import as_frame
from modelyard.runtimes.features import INPUT

_DRAWN: Final = 500


def is_booster(model: object) -> bool:
    """Whether it is a bare booster of either framework."""
    return xgboost.is_booster(model) or lightgbm.is_booster(model)


def prepare(booster: Any, sample: object) -> tuple[Native, dict[str, Array], Any]:
    """The booster at rest, rows to prove its conversion on, and an estimator to convert.

    Without a sample the rows are drawn around the values at which the trees cut, which tries a
    conversion harder than real rows would.
    """
    module = xgboost if xgboost.is_booster(booster) else lightgbm
    names, count, classes = module.describe(booster)
    names = names or [f"x{index}" for index in range(count)]
    rows = _drawn(module, booster, count) if sample is None else _given(sample, names)
    native = module.from_booster(booster, _signature(names, classes, module))
    return native, {INPUT: rows}, module.as_estimator(booster, classes)


def _given(sample: object, names: list[str]) -> Array:
    frame = as_frame(object(), sample)
    if frame.shape[1] != len(names):
        raise Invalid(
            "bad_sample",
            f"the sample has {frame.shape[1]} columns, the model takes {len(names)}",
            field="sample",
        )
    if set(names) <= set(frame.columns):
        frame = frame[names]
    try:
        return np.ascontiguousarray(frame.astype(np.float64).to_numpy())
    except (TypeError, ValueError):
        raise Invalid(
            "bad_sample",
            "a bare booster takes numbers; the sample holds other values",
            field="sample",
        ) from None


def _drawn(module: ModuleType, booster: Any, count: int) -> Array:
    random = np.random.default_rng(0)
    columns = []
    for cuts in module.split_values(booster, count):
        cuts = cuts if len(cuts) else np.zeros(1)
        spread = max(float(np.ptp(cuts)), 1.0)
        near = random.choice(cuts, _DRAWN)
        shift = random.choice([0.0, 1e-3, -1e-3, 0.3, -0.3], _DRAWN) * spread
        columns.append(near + shift)
    return np.column_stack(columns)


def _signature(names: list[str], classes: int, module: ModuleType) -> Signature:
    single = module is xgboost
    given = Datatype.FP32 if single else Datatype.FP64
    columns = tuple(Column(name, Datatype.FP64, nullable=True) for name in names)
    inputs = (TensorSpec(INPUT, Datatype.FP64, (FREE, len(names)), columns),)
    if not classes:
        return Signature(inputs, (TensorSpec(PREDICTION, given, (FREE, 1)),), task="regression")
    shares = tuple(Column(str(index), given) for index in range(classes))
    outputs = (
        TensorSpec(LABEL, Datatype.INT64, (FREE,)),
        TensorSpec(PROBABILITIES, given, (FREE, classes), shares),
    )
    return Signature(inputs, outputs, task="classification")
