"""Infers what a fitted estimator takes and gives from the estimator and a sample of its table.

A table of numbers is one tensor `input` with named columns; a table with any text is one tensor a
column. Both are inferred in the estimator's own precision; a conversion may narrow them.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid, MissingExtra
from modelyard.core.signature import FREE, Column, Signature, TensorSpec
from modelyard.core.table import LABEL, PREDICTION, PROBABILITIES
from modelyard.runtimes.columns import column_positions
from modelyard.runtimes.features import INPUT, takes_numbers
from modelyard.runtimes.steps import walk

if TYPE_CHECKING:
    import pandas as pd

_TAKES_NAN = ("HistGradientBoosting", "XGB", "LGBM")


def as_frame(model: object, sample: Any) -> "pd.DataFrame":
    """The sample as a table whose columns are exactly those that the model takes, in its order."""
    try:
        import pandas as pd
    except ImportError:
        raise MissingExtra("sklearn", "packaging an estimator") from None
    names = _fitted_names(model, sample)
    if isinstance(sample, pd.DataFrame):
        frame = sample.reset_index(drop=True)
        frame.columns = [str(name) for name in frame.columns]
        _check_columns(names or [], list(frame.columns))
        if names is not None:
            frame = frame[names]
    else:
        array = np.asarray(sample)
        if array.ndim != 2:
            raise Invalid(
                "bad_sample",
                f"the sample must be a table of rows and columns, not {array.ndim} axes",
                field="sample",
            )
        if names is None or len(names) != array.shape[1]:
            names = [f"x{index}" for index in range(array.shape[1])]
        frame = pd.DataFrame(array, columns=names)
        if array.dtype == object:
            frame = frame.infer_objects()
    _check_size(model, frame)
    return frame


def _fitted_names(model: object, sample: Any) -> list[str] | None:
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return None
    given = [str(name) for name in getattr(sample, "columns", names)]
    # LightGBM writes its names down with underscores for blanks.
    if len(given) == len(names) and [each.replace(" ", "_") for each in given] == list(names):
        return given
    return [str(name) for name in names]


def _check_columns(names: list[str], given: list[str]) -> None:
    duplicates = {name for name in given if given.count(name) > 1}
    if duplicates:
        raise Invalid(
            "bad_sample", f"the sample has two columns '{min(duplicates)}'", field="sample"
        )
    missing = next((name for name in names if name not in given), None)
    if missing is not None:
        raise Invalid(
            "missing_column",
            f"the sample has no column '{missing}', which the model was fitted with",
            field=missing,
        )


def _check_size(model: object, frame: "pd.DataFrame") -> None:
    if len(frame) == 0 or frame.shape[1] == 0:
        raise Invalid("bad_sample", "the sample must hold at least one row", field="sample")
    wanted = getattr(model, "n_features_in_", None)
    if wanted is not None and wanted != frame.shape[1]:
        raise Invalid(
            "bad_sample",
            f"the sample has {frame.shape[1]} columns, the model was fitted with {wanted}",
            field="sample",
        )


def infer_signature(model: Any, frame: "pd.DataFrame", outputs: dict[str, Array]) -> Signature:
    """The signature of an estimator, from a sample and what the estimator answers for it."""
    columns = [_column(model, frame, name) for name in frame.columns]
    task = None
    if LABEL in outputs:
        task = "classification"
    elif _is_regressor(model):
        task = "regression"
    return Signature(
        inputs=_inputs(columns),
        outputs=tuple(_output(model, name, array) for name, array in outputs.items()),
        task=task,
    )


def _inputs(columns: Sequence[Column]) -> tuple[TensorSpec, ...]:
    if all(column.datatype is not Datatype.BYTES for column in columns):
        return (TensorSpec(INPUT, Datatype.FP64, (FREE, len(columns)), tuple(columns)),)
    return tuple(
        TensorSpec(column.name, column.datatype, (FREE, 1), (column,), nullable=column.nullable)
        for column in columns
    )


def _column(model: Any, frame: "pd.DataFrame", name: str) -> Column:
    series = frame[name]
    missing = bool(series.isna().any())
    datatype = _column_datatype(series, name)
    nullable = missing or (
        _means_to_take_missing(model, list(frame.columns), name, datatype)
        and _takes_missing(model, frame, name)
    )
    if datatype is Datatype.BYTES:
        categories, is_open = _categories(model, frame, name)
        return Column(name, datatype, nullable, categories, is_open)
    if nullable and not datatype.is_float:
        datatype = Datatype.FP64
    return Column(name, datatype, nullable)


def _column_datatype(series: "pd.Series[Any]", name: str) -> Datatype:
    import pandas as pd

    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind == "categorical":
        kind = pd.api.types.infer_dtype(series.cat.categories, skipna=True)
    if kind == "boolean":
        return Datatype.BOOL
    if kind == "integer":
        return Datatype.INT64
    if kind in ("floating", "mixed-integer-float", "integer-na"):
        return Datatype.FP64
    if kind == "string":
        return Datatype.BYTES
    if kind == "empty":
        return Datatype.BYTES if series.dtype == object else Datatype.FP64
    raise Invalid(
        "bad_column",
        f"column '{name}' holds {kind} values; a table is made of text, numbers, true and false: "
        "convert it before the model, or inside its pipeline",
        field=name,
    )


def _means_to_take_missing(model: object, names: list[str], name: str, datatype: Datatype) -> bool:
    """Whether an imputer fills this column, or the estimator was made for missing numbers.

    That a model does not fail is not enough: an encoder that ignores unknown text ignores gaps too.
    """
    if names.index(name) in _imputed(model, names):
        return True
    takes_nan = any(type(part).__name__.startswith(_TAKES_NAN) for part in walk(model))
    return takes_nan and datatype is not Datatype.BYTES


def _imputed(model: Any, names: list[str]) -> set[int]:
    """The positions of the raw columns that an imputer fills."""
    if hasattr(model, "transformers_"):
        found: set[int] = set()
        for _, transformer, selected in model.transformers_:
            if any(type(part).__name__.endswith("Imputer") for part in walk(transformer)):
                found |= set(column_positions(selected, names))
        return found
    steps = getattr(model, "steps", None)
    if steps:
        return _imputed(steps[0][1], names)
    return set(range(len(names))) if type(model).__name__.endswith("Imputer") else set()


def _takes_missing(model: Any, frame: "pd.DataFrame", name: str) -> bool:
    """Ask the model itself: one real row with this value missing."""
    row = frame.head(1).copy()
    missing = row[name].where(np.array([False]))
    row[name] = missing.astype(np.float64) if frame[name].dtype.kind in "iufb" else missing
    try:
        model.predict(row if hasattr(model, "feature_names_in_") else row.to_numpy())
    except Exception:  # noqa: BLE001 - whatever it raises, it does not take the row
        return False
    return True


def _categories(
    model: object, frame: "pd.DataFrame", name: str
) -> tuple[tuple[str, ...] | None, bool]:
    """The categories of a column of text, and whether the model knows what to do with others."""
    position = list(frame.columns).index(name)
    for encoder, columns in _encoders(model, list(frame.columns)):
        if position in columns:
            found = encoder.categories_[columns.index(position)]
            words = tuple(str(value) for value in found if isinstance(value, str) and value)
            return words, encoder.handle_unknown != "error"
    if frame[name].dtype.name == "category":
        return tuple(str(value) for value in frame[name].cat.categories), True
    return None, False


def _encoders(model: Any, names: list[str]) -> Iterator[tuple[Any, list[int]]]:
    """Each fitted encoder with the positions of the raw columns that it encodes."""
    steps = getattr(model, "steps", None)
    if steps:
        for _, step in steps:
            yield from _encoders(step, names)
            if not type(step).__name__.endswith("Imputer"):
                # What comes after sees other columns.
                return
    elif hasattr(model, "transformers_"):
        for _, transformer, selected in model.transformers_:
            positions = column_positions(selected, names)
            for encoder, inner in _encoders(transformer, [names[each] for each in positions]):
                yield encoder, [positions[each] for each in inner]
    elif hasattr(model, "categories_") and hasattr(model, "handle_unknown"):
        yield model, list(range(len(model.categories_)))


def answers(model: Any, frame: "pd.DataFrame") -> dict[str, Array]:
    """What the estimator itself answers for a table, by output name."""
    features = frame if hasattr(model, "feature_names_in_") else frame.to_numpy()
    try:
        predicted = np.asarray(model.predict(features))
    except Exception as error:
        raise Invalid(
            "bad_sample",
            f"the model fails on the sample: {type(error).__name__}: {error!s:.300}",
            field="sample",
        ) from error
    if not _is_classifier(model):
        return {PREDICTION: predicted}
    outputs = {LABEL: predicted}
    if hasattr(model, "predict_proba"):
        probabilities = model.predict_proba(features)
        if isinstance(probabilities, np.ndarray) and predicted.ndim == 1:
            outputs[PROBABILITIES] = probabilities
    return outputs


def _output(model: Any, name: str, array: Array) -> TensorSpec:
    if name == LABEL:
        datatype = Datatype.BYTES if array.dtype.kind in "OSUT" else Datatype.INT64
        shape = (FREE,) if array.ndim == 1 else (FREE, array.shape[1])
        return TensorSpec(name, datatype, shape)
    if name == PROBABILITIES:
        columns = tuple(
            Column(class_name(each), Datatype.of(array.dtype)) for each in model.classes_
        )
        return TensorSpec(name, Datatype.of(array.dtype), (FREE, len(columns)), columns)
    datatype = Datatype.of(array.dtype)
    return TensorSpec(name, datatype, (FREE, 1 if array.ndim == 1 else array.shape[1]))


def class_name(value: object) -> str:
    """The name of a class; whole numbers and booleans are spelled as the label is."""
    return str(value) if isinstance(value, str) else str(int(value))  # type: ignore[call-overload]


def _is_classifier(model: object) -> bool:
    from sklearn.base import is_classifier

    return bool(is_classifier(model))


def _is_regressor(model: object) -> bool:
    from sklearn.base import is_regressor

    return bool(is_regressor(model))


def to_tensors(signature: Signature, frame: "pd.DataFrame") -> dict[str, Array]:
    """The table as the input tensors of a signature."""
    if takes_numbers(signature):
        spec = signature.inputs[0]
        numbers = frame.astype(np.float64).to_numpy()
        return {INPUT: np.ascontiguousarray(numbers, spec.datatype.dtype)}
    return {spec.name: _tensor(spec, frame[spec.columns[0].name]) for spec in signature.inputs}


def _tensor(spec: TensorSpec, series: "pd.Series[Any]") -> Array:
    if spec.datatype is Datatype.BYTES:
        missing = series.isna().to_numpy()
        words = series.astype(object).to_numpy(copy=True)
        words[missing] = ""
        return words.reshape(-1, 1)
    if spec.datatype.is_float:
        values = series.astype(object).where(series.notna(), np.nan).to_numpy(np.float64)
        return values.astype(spec.datatype.dtype).reshape(-1, 1)
    return series.to_numpy(spec.datatype.dtype).reshape(-1, 1)
