"""The estimator zoo: every algorithm that Modelyard promises, on every data set that fits it.

`ZOO` is a plain list, so that any test may run it over any road: packaged, over HTTP, over gRPC.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd
import sklearn.datasets
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Ridge,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from xgboost import XGBClassifier, XGBRegressor

from modelyard.packaging.labels import LabelledClassifier

Builder = Callable[[], BaseEstimator]
Table = pd.DataFrame | np.ndarray


@dataclass(frozen=True)
class Dataset:
    """Features and target, with rows held back from training."""

    train: Table
    target: np.ndarray
    test: Table


@dataclass(frozen=True)
class Case:
    """One algorithm on one data set. `onnx` says whether it is served as ONNX, proven equal."""

    name: str
    build: Builder
    dataset: str
    onnx: bool = True

    def __str__(self) -> str:
        return f"{self.name}-{self.dataset}"

    def fit(self) -> BaseEstimator:
        """The fitted estimator."""
        data = load(self.dataset)
        with warnings.catch_warnings():
            # Small fits stop before they converge; how well they fit is not what is tested.
            warnings.simplefilter("ignore")
            return self.build().fit(data.train, data.target)


@cache
def load(name: str) -> Dataset:
    """A data set by name, split into two thirds and one third."""
    table, target = _SOURCES[name]()
    held_back = np.arange(len(target)) % 3 == 1
    return Dataset(table[~held_back], target[~held_back], table[held_back])


def mixed_table(rows: int = 600, seed: int = 7) -> tuple[pd.DataFrame, np.ndarray]:
    """A table of strings, categories, numbers, integers and booleans with missing values."""
    random = np.random.default_rng(seed)
    age = random.normal(45, 12, rows).round(1)
    income = random.lognormal(10, 0.5, rows)
    city = random.choice(["Oslo", "Lima", "Pune", "Łódź"], rows)
    plan = random.choice(["basic", "gold", "pro"], rows, p=[0.6, 0.3, 0.1])
    visits = random.poisson(4, rows)
    member = random.random(rows) < 0.4
    score = (
        0.05 * (age - 45) + 0.9 * (plan == "gold") - 0.8 * (city == "Lima") + 0.3 * (visits - 4)
    ) + random.normal(0, 0.7, rows)
    table = pd.DataFrame(
        {
            "age": np.where(random.random(rows) < 0.1, np.nan, age),
            "income": income,
            "city": pd.Series(np.where(random.random(rows) < 0.1, None, city), dtype="str"),
            "plan": pd.Categorical(plan),
            "visits": visits,
            "member": member,
        }
    )
    return table, score


def _mixed(kind: str) -> tuple[pd.DataFrame, np.ndarray]:
    table, score = mixed_table()
    if kind == "regression":
        return table, score
    if kind == "integers":
        return table, (score > 0).astype(np.int64)
    if kind == "booleans":
        return table, score > 0
    names = np.array(["low", "middle", "high"])
    return table, names[np.digitize(score, [-0.5, 0.7])]


def _bundled(loader: Callable[..., object], as_frame: bool) -> tuple[Table, np.ndarray]:
    table, target = loader(return_X_y=True, as_frame=as_frame)  # type: ignore[misc]
    return table, np.asarray(target)


def _iris_named() -> tuple[Table, np.ndarray]:
    data = sklearn.datasets.load_iris(as_frame=True)
    return data.data, np.asarray(data.target_names)[data.target]


_SOURCES: dict[str, Callable[[], tuple[Table, np.ndarray]]] = {
    "iris": lambda: _bundled(sklearn.datasets.load_iris, False),
    "iris_named": _iris_named,
    "wine": lambda: _bundled(sklearn.datasets.load_wine, False),
    "breast_cancer": lambda: _bundled(sklearn.datasets.load_breast_cancer, True),
    "digits": lambda: _bundled(sklearn.datasets.load_digits, False),
    "diabetes": lambda: _bundled(sklearn.datasets.load_diabetes, True),
    "mixed_regression": lambda: _mixed("regression"),
    "mixed_integers": lambda: _mixed("integers"),
    "mixed_booleans": lambda: _mixed("booleans"),
    "mixed_strings": lambda: _mixed("strings"),
}


def mixed_pipeline(estimator: BaseEstimator) -> Pipeline:
    """The pipeline most people put before an estimator of a mixed table."""
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    columns = ColumnTransformer(
        [
            ("numbers", numbers, ["age", "income", "visits"]),
            ("words", words, ["city", "plan"]),
            ("flags", "passthrough", ["member"]),
        ],
        sparse_threshold=0.0,
    )
    return Pipeline([("columns", columns), ("estimator", estimator)])


def _scaled(estimator: BaseEstimator) -> Pipeline:
    return make_pipeline(StandardScaler(), estimator)


CLASSIFIERS: dict[str, Builder] = {
    "logistic": lambda: LogisticRegression(max_iter=5000),
    "sgd_log_loss": lambda: SGDClassifier(loss="log_loss", random_state=0),
    "sgd_hinge": lambda: SGDClassifier(loss="hinge", random_state=0),
    "sgd_modified_huber": lambda: SGDClassifier(loss="modified_huber", random_state=0),
    "sgd_perceptron": lambda: SGDClassifier(loss="perceptron", random_state=0),
    "decision_tree": lambda: DecisionTreeClassifier(random_state=0),
    "random_forest": lambda: RandomForestClassifier(20, random_state=0),
    "hist_gradient_boosting": lambda: HistGradientBoostingClassifier(max_iter=15, random_state=0),
    "svc": lambda: SVC(),
    "svc_probability": lambda: SVC(probability=True, random_state=0),
    "linear_svc": lambda: LinearSVC(random_state=0, max_iter=20_000),
    "knn": lambda: KNeighborsClassifier(5),
    "mlp": lambda: MLPClassifier((16,), max_iter=400, random_state=0),
    "xgboost": lambda: XGBClassifier(n_estimators=15, max_depth=4),
    "lightgbm": lambda: LGBMClassifier(n_estimators=15, verbose=-1),
}
REGRESSORS: dict[str, Builder] = {
    "linear": lambda: LinearRegression(),
    "ridge": lambda: Ridge(),
    "lasso": lambda: Lasso(alpha=0.01),
    "elastic_net": lambda: ElasticNet(alpha=0.01),
    "sgd_squared_error": lambda: SGDRegressor(random_state=0),
    "sgd_huber": lambda: SGDRegressor(loss="huber", random_state=0),
    "sgd_epsilon_insensitive": lambda: SGDRegressor(loss="epsilon_insensitive", random_state=0),
    "decision_tree": lambda: DecisionTreeRegressor(random_state=0),
    "random_forest": lambda: RandomForestRegressor(20, random_state=0),
    "hist_gradient_boosting": lambda: HistGradientBoostingRegressor(max_iter=15, random_state=0),
    "svr": lambda: SVR(),
    "knn": lambda: KNeighborsRegressor(5),
    "mlp": lambda: MLPRegressor(hidden_layer_sizes=(16,), max_iter=400, random_state=0),
    "xgboost": lambda: XGBRegressor(n_estimators=15, max_depth=4),
    "lightgbm": lambda: LGBMRegressor(n_estimators=15, verbose=-1),
}
# Digits are small whole numbers: neighbours at equal distance, of which each library picks its own.
_TIED = {("knn", "digits")}
_WANTS_CODES = {"xgboost"}
_TREES = {"decision_tree", "random_forest", "hist_gradient_boosting", "xgboost", "lightgbm"}


def _classifier(name: str, dataset: str) -> Builder:
    build = CLASSIFIERS[name]
    named = dataset in ("iris_named", "mixed_strings", "mixed_booleans")
    if name in _WANTS_CODES and named:
        return _prepared(lambda: LabelledClassifier(build()), name, dataset)
    return _prepared(build, name, dataset)


def _prepared(build: Builder, name: str, dataset: str) -> Builder:
    if dataset.startswith("mixed"):
        return lambda: mixed_pipeline(build())
    if name in _TREES or name == "knn":
        return build
    return lambda: _scaled(build())


def _cases() -> list[Case]:
    cases = [
        Case(
            f"{name}_classifier",
            _classifier(name, dataset),
            dataset,
            onnx=(name, dataset) not in _TIED,
        )
        for name in CLASSIFIERS
        for dataset in (
            "iris", "iris_named", "wine", "breast_cancer", "digits",
            "mixed_integers", "mixed_booleans", "mixed_strings",
        )
    ]  # fmt: skip
    cases += [
        Case(f"{name}_regressor", _prepared(REGRESSORS[name], name, dataset), dataset)
        for name in REGRESSORS
        for dataset in ("diabetes", "mixed_regression")
    ]
    return cases


ZOO: list[Case] = _cases()
