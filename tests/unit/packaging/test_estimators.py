"""Estimators beyond the zoo: each is served with its own answers, as ONNX or natively."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lightgbm import LGBMClassifier
from sklearn.base import BaseEstimator
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    VotingClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MinMaxScaler,
    OneHotEncoder,
    PolynomialFeatures,
    StandardScaler,
)
from sklearn.svm import LinearSVC
from xgboost import XGBClassifier, XGBRegressor

from modelyard.core.errors import Invalid
from modelyard.optimise.parity import cast_inputs, compare
from modelyard.packaging.labels import LabelledClassifier
from modelyard.packaging.package import package_estimator
from modelyard.packaging.signature import answers, as_frame, to_tensors
from modelyard.runtimes.answers import shaped
from modelyard.runtimes.open import open_runtime
from tests.zoo import load, mixed_table

WINE = load("wine")
MIXED, SCORE = mixed_table(300)
GRADED = (SCORE > 0).astype(int)


def table(numbers: Any = None, words: Any = None) -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("numbers", numbers or SimpleImputer(), ["age", "income", "visits"]),
            ("words", words or OneHotEncoder(handle_unknown="ignore"), ["city", "plan"]),
        ]
    )


def reviews() -> pd.DataFrame:
    random = np.random.default_rng(0)
    words = ["Good", "bad", "fine", "ugly", "nice"]
    return pd.DataFrame({"text": [" ".join(random.choice(words, 4)) for _ in range(100)]})


@dataclass(frozen=True)
class Case:
    name: str
    build: Callable[[], BaseEstimator]
    table: Any
    target: Any
    verdict: str = "equal"

    def __str__(self) -> str:
        return self.name


CATEGORIES = MIXED.astype({"city": "category"})
REVIEWS = reviews()
LIKED = REVIEWS["text"].str.contains("Good").astype(int)
CASES = [
    Case(
        "gradient_boosting",
        lambda: GradientBoostingClassifier(n_estimators=5),
        WINE.train,
        WINE.target,
    ),
    Case("extra_trees", lambda: ExtraTreesClassifier(10), WINE.train, WINE.target),
    Case("naive_bayes", lambda: GaussianNB(), WINE.train, WINE.target),
    Case("k_means", lambda: KMeans(3, n_init=1, random_state=0), WINE.train, None),
    Case(
        "isolation_forest",
        lambda: IsolationForest(n_estimators=5, random_state=0),
        WINE.train,
        None,
    ),
    Case(
        "principal_components",
        lambda: make_pipeline(StandardScaler(), PCA(3), LogisticRegression()),
        WINE.train,
        WINE.target,
    ),
    Case(
        "calibrated",
        lambda: make_pipeline(StandardScaler(), CalibratedClassifierCV(LinearSVC())),
        WINE.train,
        WINE.target,
    ),
    Case(
        "voting",
        lambda: VotingClassifier(
            [("a", GaussianNB()), ("b", make_pipeline(StandardScaler(), LogisticRegression()))],
            voting="soft",
        ),
        WINE.train,
        WINE.target,
    ),
    Case(
        "polynomial",
        lambda: make_pipeline(
            table(make_pipeline(SimpleImputer(), StandardScaler(), PolynomialFeatures(2))), Ridge()
        ),
        MIXED,
        SCORE,
    ),
    Case(
        "selectors",
        lambda: make_pipeline(
            ColumnTransformer(
                [
                    (
                        "n",
                        make_pipeline(SimpleImputer(), MinMaxScaler()),
                        make_column_selector(dtype_include=np.number),
                    ),
                    (
                        "c",
                        OneHotEncoder(handle_unknown="ignore"),
                        make_column_selector(dtype_exclude=["number", "bool"]),
                    ),
                ]
            ),
            Ridge(),
        ),
        MIXED,
        SCORE,
    ),
    Case(
        "object_columns_with_none",
        lambda: make_pipeline(table(), LogisticRegression(max_iter=5000)),
        MIXED.assign(city=MIXED["city"].astype(object).where(MIXED["city"].notna(), None)),
        GRADED,
    ),
    Case(
        "text",
        lambda: make_pipeline(
            ColumnTransformer([("t", TfidfVectorizer(token_pattern="[a-zA-Z0-9_]+"), "text")]),
            LogisticRegression(),
        ),
        REVIEWS,
        LIKED,
    ),
    Case(
        "labels_of_one_and_minus_one",
        lambda: LabelledClassifier(XGBClassifier(n_estimators=5)),
        WINE.train,
        np.where(WINE.target > 0, 1, -1),
    ),
    Case(
        "labels_as_floats",
        lambda: make_pipeline(StandardScaler(), LogisticRegression()),
        WINE.train,
        WINE.target + 1.0,
    ),
    Case(
        "xgboost_softmax",
        lambda: XGBClassifier(n_estimators=5, objective="multi:softmax"),
        WINE.train,
        WINE.target,
    ),
    Case(
        "xgboost_poisson",
        lambda: XGBRegressor(n_estimators=5, objective="count:poisson"),
        WINE.train,
        WINE.target,
    ),
    Case(
        "xgboost_linear",
        lambda: XGBRegressor(booster="gblinear"),
        WINE.train,
        WINE.target,
        "unsupported",
    ),
    Case(
        "xgboost_categories",
        lambda: XGBClassifier(n_estimators=5, enable_categorical=True),
        CATEGORIES,
        GRADED,
        "unsupported",
    ),
    Case(
        "lightgbm_categories",
        lambda: LGBMClassifier(n_estimators=5, verbose=-1),
        CATEGORIES,
        GRADED,
        "unsupported",
    ),
    Case(
        "hist_gradient_boosting_categories",
        lambda: HistGradientBoostingClassifier(max_iter=5),
        CATEGORIES,
        GRADED,
        "unsupported",
    ),
    Case(
        "a_ufunc",
        lambda: make_pipeline(FunctionTransformer(np.log1p), Ridge()),
        np.abs(WINE.train),
        WINE.target,
        "unsupported",
    ),
    Case(
        "a_column_called_label",
        lambda: make_pipeline(
            ColumnTransformer([("c", OneHotEncoder(handle_unknown="ignore"), ["label"])]),
            LogisticRegression(),
        ),
        MIXED[["plan"]].rename(columns={"plan": "label"}),
        GRADED,
        "unsupported",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_the_bundle_answers_as_the_estimator(case: Case, tmp_path: Path) -> None:
    """Whatever serves gives the estimator's own answers, and the bundle says what serves."""
    model = case.build().fit(case.table, case.target)
    bundle = package_estimator(model, name="model", sample=case.table, staging=tmp_path)
    conversion = bundle.manifest.conversion
    assert conversion.verdict == case.verdict, conversion.reason
    assert (bundle.manifest.serving.format == "onnx") == (case.verdict == "equal")
    runtime = open_runtime(bundle)
    frame = as_frame(model, case.table)
    inputs = cast_inputs(runtime.signature, to_tensors(runtime.signature, frame))
    runtime.signature.check(inputs)
    outputs = runtime.run(inputs)
    expected = {
        spec.name: shaped(answers(model, frame)[spec.name], spec.datatype, len(spec.shape))
        for spec in runtime.signature.outputs
    }
    assert compare(expected, outputs).complaint == ""


def test_a_model_without_predict_is_refused(tmp_path: Path) -> None:
    """A scaler is no model."""
    with pytest.raises(Invalid) as caught:
        package_estimator(
            StandardScaler().fit(WINE.train), name="m", sample=WINE.train, staging=tmp_path
        )
    assert caught.value.code == "unknown_model"


def test_extra_files_and_lineage_travel(tmp_path: Path) -> None:
    """Plots lie in the bundle under their paths; a lineage that is given is kept."""
    from modelyard.bundle.manifest import Lineage

    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(WINE.train, WINE.target)
    bundle = package_estimator(
        model,
        name="m",
        sample=WINE.test,
        staging=tmp_path,
        lineage=Lineage(seed=7, packages={"numpy": "1"}),
        files={"evaluation/plot.svg": b"<svg/>"},
    )
    bundle.verify()
    assert bundle.read("evaluation/plot.svg") == b"<svg/>"
    assert bundle.manifest.lineage.seed == 7
    assert bundle.manifest.lineage.packages == {"numpy": "1"}
