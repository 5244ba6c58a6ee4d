"""What is checked before native code sees it lets every good model pass."""

from typing import Any

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.multiclass import OneVsOneClassifier
from sklearn.neighbors import KernelDensity, KNeighborsClassifier, KNeighborsRegressor
from sklearn.svm import SVC, LinearSVC, NuSVR, OneClassSVM
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from modelyard.runtimes.lightgbm_file import check_lightgbm
from modelyard.runtimes.sklearn_state import check_state
from modelyard.runtimes.xgboost_file import check_xgboost

_RANDOM = np.random.default_rng(0)
_ROWS = 300
_FRAME = pd.DataFrame(
    {
        "年龄": _RANDOM.random(_ROWS),
        "visits": _RANDOM.integers(0, 30, _ROWS).astype(float),
        "code": pd.Categorical(_RANDOM.choice(list("abcdefgh"), _ROWS)),
        "shop": pd.Categorical(_RANDOM.integers(0, 40, _ROWS)),
    }
)
_FRAME.loc[::7, "visits"] = np.nan
_NUMBERS = _FRAME[["年龄", "visits"]]
_WHOLE = _NUMBERS.fillna(0)
_Y = _RANDOM.integers(0, 3, _ROWS)
_TWO = np.column_stack([_Y, _Y[::-1]]).astype(float)

_XGBOOST: dict[str, Any] = {
    "categories in lists": lambda: xgboost.XGBClassifier(
        n_estimators=4, enable_categorical=True, max_cat_to_onehot=1
    ).fit(_FRAME, _Y),
    "categories one by one": lambda: xgboost.XGBClassifier(
        n_estimators=4, enable_categorical=True, max_cat_to_onehot=100
    ).fit(_FRAME, _Y),
    "dart": lambda: xgboost.XGBRegressor(n_estimators=3, booster="dart").fit(_NUMBERS, _Y),
    "linear": lambda: xgboost.XGBClassifier(n_estimators=3, booster="gblinear").fit(_WHOLE, _Y),
    "forest": lambda: xgboost.XGBRFClassifier(n_estimators=4).fit(_NUMBERS, _Y),
    "pruned": lambda: xgboost.XGBRegressor(
        n_estimators=4, tree_method="exact", gamma=5, max_depth=9
    ).fit(_NUMBERS, _TWO[:, 0]),
    "two targets": lambda: xgboost.XGBRegressor(n_estimators=3).fit(_NUMBERS, _TWO),
    "leaves of two values": lambda: xgboost.XGBRegressor(
        n_estimators=3, multi_strategy="multi_output_tree", tree_method="hist"
    ).fit(_NUMBERS, _TWO),
    "slice": lambda: xgboost.XGBRegressor(n_estimators=5).fit(_NUMBERS, _Y).get_booster()[1:3],
}


@pytest.mark.parametrize("make", _XGBOOST.values(), ids=_XGBOOST)
def test_good_xgboost_models_pass(make: Any) -> None:
    """Whatever booster, and in both spellings."""
    model = make()
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    for form in ("json", "ubj"):
        check_xgboost(bytes(booster.save_raw(form)))


def _lightgbm(kind: Any = lightgbm.LGBMRegressor, table: Any = _NUMBERS, **options: Any) -> Any:
    fitted = kind(n_estimators=4, verbose=-1, **options).fit(table, _Y)
    return fitted.booster_


_LIGHTGBM: dict[str, Any] = {
    "categories": lambda: _lightgbm(
        lightgbm.LGBMClassifier, _FRAME, min_data_per_group=1, max_cat_to_onehot=1, cat_l2=0.0
    ),
    "dart": lambda: _lightgbm(boosting_type="dart"),
    "forest": lambda: _lightgbm(boosting_type="rf", bagging_freq=1, bagging_fraction=0.5),
    "one for each class": lambda: _lightgbm(lightgbm.LGBMClassifier, objective="multiclassova"),
    "stumps": lambda: _lightgbm(min_child_samples=10_000),
    "linear leaves": lambda: _lightgbm(table=_WHOLE, linear_tree=True),
}


@pytest.mark.parametrize("make", _LIGHTGBM.values(), ids=_LIGHTGBM)
def test_good_lightgbm_models_pass(make: Any) -> None:
    """Whatever booster, and a part of one."""
    booster = make()
    check_lightgbm(booster.model_to_string().encode())
    check_lightgbm(booster.model_to_string(num_iteration=2).encode())


_X = _RANDOM.random((_ROWS, 5))
_ESTIMATORS = (
    RandomForestClassifier(4),
    ExtraTreesRegressor(4),
    GradientBoostingClassifier(n_estimators=3),
    GradientBoostingRegressor(init=DecisionTreeRegressor(), n_estimators=3),
    AdaBoostClassifier(n_estimators=3),
    BaggingClassifier(n_estimators=3, max_features=0.5),
    BaggingClassifier(SVC(), n_estimators=2),
    IsolationForest(n_estimators=4, max_features=0.6),
    HistGradientBoostingClassifier(max_iter=3),
    HistGradientBoostingRegressor(max_iter=3, categorical_features=[0]),
    SVC(),
    NuSVR(),
    OneClassSVM(),
    LinearSVC(),
    KNeighborsClassifier(algorithm="ball_tree"),
    KNeighborsRegressor(algorithm="kd_tree", leaf_size=2),
    KNeighborsClassifier(algorithm="brute"),
    KernelDensity(),
    VotingClassifier([("a", SVC()), ("b", DecisionTreeClassifier())]),
    StackingClassifier([("a", SVC()), ("b", RandomForestClassifier(3))], cv=2),
    OneVsOneClassifier(SVC()),
)


@pytest.mark.parametrize("estimator", _ESTIMATORS, ids=lambda each: type(each).__name__)
def test_good_estimators_pass(estimator: Any) -> None:
    """Trees, neighbours and support vectors, alone and inside of others."""
    rows = _X.copy()
    rows[:, 0] = _RANDOM.integers(0, 9, _ROWS)
    check_state(estimator.fit(rows, _Y))


def test_a_kernel_of_ones_own_passes() -> None:
    """Its support vectors are not in the model, but in the rows that it is asked about."""
    check_state(SVC(kernel="precomputed").fit(_X @ _X.T, _Y))
