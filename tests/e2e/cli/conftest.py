"""A home with two versions of a classifier of a mixed table, and the estimators themselves."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from modelyard.core.names import Reference
from modelyard.yard import Yard


@dataclass(frozen=True)
class Published:
    """What lies in the home: `leavers`, versions 1 and 2, version 1 deployed and `champion`."""

    home: Path
    frame: pd.DataFrame
    estimators: tuple[Any, Any]


def _table(rows: int = 240) -> tuple[pd.DataFrame, np.ndarray]:
    random = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "age": random.normal(40, 9, rows).round(1),
            "visits": random.integers(0, 30, rows),
            # Text that looks like a number: it must never become one.
            "code": random.choice(["00123", "0456", "789"], rows),
            "member": random.random(rows) < 0.5,
        }
    )
    score = frame["age"] / 40 + frame["visits"] / 30 + (frame["code"] == "00123") - 1.8
    frame.loc[random.random(rows) < 0.1, "age"] = np.nan
    frame.loc[random.random(rows) < 0.1, "code"] = None
    return frame, np.where(score + random.normal(0, 0.2, rows) > 0, "leaves", "stays")


def _pipeline(strength: float) -> Any:
    words = make_pipeline(
        SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore")
    )
    numbers = make_pipeline(SimpleImputer(), StandardScaler())
    return make_pipeline(
        ColumnTransformer([("n", numbers, ["age", "visits", "member"]), ("w", words, ["code"])]),
        LogisticRegression(C=strength),
    )


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The home; read it, and copy it to change it."""
    home = tmp_path_factory.mktemp("published") / "home"
    frame, target = _table()
    estimators = tuple(_pipeline(strength).fit(frame, target) for strength in (1.0, 0.01))
    with Yard.open(home) as yard:
        for estimator in estimators:
            yard.publish(estimator, name="leavers", sample=frame)
        yard.deploy(Reference("leavers", version=1))
        yard.set_alias("leavers", "champion", 1)
    return Published(home, frame, estimators)  # type: ignore[arg-type]


@pytest.fixture
def leavers(published: Published, modelyard: Any) -> Any:
    """The command on a copy of that home."""
    shutil.copytree(published.home, modelyard.home)
    return modelyard
