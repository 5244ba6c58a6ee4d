"""Signatures inferred from estimators and samples."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder

from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import Signature
from modelyard.packaging.labels import LabelledClassifier
from modelyard.packaging.package import package_estimator
from modelyard.packaging.signature import answers, as_frame, infer_signature
from tests.zoo import load, mixed_pipeline


def signature_of(model: object, sample: object) -> Signature:
    frame = as_frame(model, sample)
    return infer_signature(model, frame, answers(model, frame))


def test_a_mixed_table_has_one_input_a_column() -> None:
    """Columns keep name and type; imputed ones may be missing, encoded ones know their values."""
    data = load("mixed_strings")
    model = mixed_pipeline(LogisticRegression(max_iter=500)).fit(data.train, data.target)
    signature = signature_of(model, data.test)
    kinds = {spec.name: spec.datatype for spec in signature.inputs}
    assert kinds == {
        "age": Datatype.FP64,
        "income": Datatype.FP64,
        "city": Datatype.BYTES,
        "plan": Datatype.BYTES,
        "visits": Datatype.FP64,
        "member": Datatype.BOOL,
    }
    columns = {column.name: column for column in signature.columns}
    assert all(columns[name].nullable for name in ("age", "income", "city", "plan", "visits"))
    assert not columns["member"].nullable
    assert set(columns["city"].categories or ()) == {"Oslo", "Lima", "Pune", "Łódź"}
    assert columns["plan"].open_categories
    assert signature.task == "classification"


def test_closed_categories_stay_closed() -> None:
    """An encoder that refuses unknown values makes the signature refuse them."""
    table = pd.DataFrame({"colour": ["red", "blue", "red"], "size": [1, 2, 3]})
    model = make_pipeline(
        ColumnTransformer([("one", OneHotEncoder(), ["colour"])], remainder="passthrough"),
        LinearRegression(),
    ).fit(table, [1.0, 2.0, 3.0])
    colour, size = signature_of(model, table).columns
    assert colour.categories == ("blue", "red")
    assert not colour.open_categories
    assert not colour.nullable
    assert size.datatype is Datatype.INT64


def test_numbers_are_one_tensor() -> None:
    """A table of numbers is one input; a linear model takes no missing values."""
    data = load("diabetes")
    model = LinearRegression().fit(data.train, data.target)
    signature = signature_of(model, data.test)
    assert [spec.name for spec in signature.inputs] == ["input"]
    assert [column.name for column in signature.columns] == list(data.test.columns)
    assert not any(column.nullable for column in signature.columns)
    assert signature.outputs[0].shape == (-1, 1)


def test_several_targets_are_one_prediction(tmp_path: Path) -> None:
    """A regression of two targets answers two columns, as ONNX too."""
    random = np.random.default_rng(0)
    features, targets = random.normal(size=(50, 3)), random.normal(size=(50, 2))
    model = LinearRegression().fit(features, targets)
    bundle = package_estimator(model, name="m", sample=features, staging=tmp_path)
    assert bundle.manifest.signature.outputs[0].shape == (-1, 2)
    assert bundle.manifest.conversion.verdict == "equal"


def test_nullable_pandas_types_are_understood() -> None:
    """pandas' own missing values in whole numbers and text become NaN and empty strings."""
    table = pd.DataFrame(
        {
            "count": pd.array([1, None, 3, 4], dtype="Int64"),
            "word": pd.Series(["a", None, "b", "a"], dtype=object),
            "mood": pd.Categorical(["x", "y", "x", None]),
        }
    )
    model = make_pipeline(
        ColumnTransformer(
            [
                ("numbers", SimpleImputer(), ["count"]),
                ("words", OneHotEncoder(handle_unknown="ignore"), ["mood"]),
            ]
        ),
        LinearRegression(),
    ).fit(table, [1.0, 2.0, 3.0, 4.0])
    columns = {column.name: column for column in signature_of(model, table).columns}
    assert columns["count"].datatype is Datatype.FP64
    assert columns["count"].nullable
    assert columns["mood"].datatype is Datatype.BYTES
    assert columns["mood"].categories == ("x", "y")


def test_a_missing_column_is_named() -> None:
    """A sample without a fitted column is refused with the column's name."""
    data = load("diabetes")
    model = LinearRegression().fit(data.train, data.target)
    with pytest.raises(Invalid) as caught:
        as_frame(model, data.test.drop(columns="bmi"))
    assert caught.value.field == "bmi"


def test_dates_are_refused_by_name() -> None:
    """A column of dates has no protocol datatype; the error says which column."""
    table = pd.DataFrame({"when": pd.date_range("2020", periods=3)})
    model = make_pipeline(
        FunctionTransformer(lambda frame: frame[["when"]].astype("int64")), LinearRegression()
    ).fit(table, [1.0, 2.0, 3.0])
    with pytest.raises(Invalid) as caught:
        signature_of(model, table)
    assert caught.value.field == "when"


def test_what_no_safe_format_holds_is_refused(tmp_path: Path) -> None:
    """A pipeline with a lambda neither converts nor may be stored."""
    features = np.ones((4, 2))
    model = make_pipeline(FunctionTransformer(lambda x: x * 2), LinearRegression())
    model.fit(features, [1.0, 2.0, 3.0, 4.0])
    with pytest.raises(Exception, match="does not convert to ONNX") as caught:
        package_estimator(model, name="m", sample=features, staging=tmp_path)
    assert type(caught.value).__name__ in ("UntrustedFormat", "Invalid")


def test_labels_are_encoded_and_decoded() -> None:
    """The meta-estimator gives back the labels that it was fitted on."""
    data = load("iris_named")
    model = LabelledClassifier(LogisticRegression(max_iter=1000)).fit(data.train, data.target)
    plain = LogisticRegression(max_iter=1000).fit(data.train, data.target)
    np.testing.assert_array_equal(model.predict(data.test), plain.predict(data.test))
    np.testing.assert_allclose(model.predict_proba(data.test), plain.predict_proba(data.test))
    assert list(model.feature_names_in_) == list(data.train.columns)


def test_an_encoder_that_ignores_gaps_does_not_mean_to_take_them() -> None:
    """Text without an imputer is not nullable where training saw no gap."""
    table = pd.DataFrame({"word": ["a", "b", "a"], "size": [1.0, np.nan, 3.0]})
    model = make_pipeline(
        ColumnTransformer(
            [
                ("words", OneHotEncoder(handle_unknown="ignore"), ["word"]),
                ("numbers", SimpleImputer(), ["size"]),
            ]
        ),
        LinearRegression(),
    ).fit(table, [1.0, 2.0, 3.0])
    word, size = signature_of(model, table).columns
    assert not word.nullable
    assert size.nullable
