import numpy as np
import pytest

from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import Column, Signature, TensorSpec
from modelyard.core.table import Predictions, TableReader, predictions

MIXED = Signature(
    (
        TensorSpec(
            "numbers",
            Datatype.FP32,
            (-1, 2),
            (Column("age", Datatype.FP32), Column("income", Datatype.FP32, nullable=True)),
        ),
        TensorSpec("city", Datatype.BYTES, (-1, 1), (Column("city", Datatype.BYTES),)),
    ),
    (
        TensorSpec("label", Datatype.BYTES, (-1,)),
        TensorSpec(
            "probabilities",
            Datatype.FP32,
            (-1, 2),
            (Column("no", Datatype.FP32), Column("yes", Datatype.FP32)),
        ),
    ),
)
ROW = {"age": 30, "income": None, "city": "Rome", "ignored": object()}


def test_rows_become_tensors_by_name() -> None:
    """Columns are found by name, in any order, and unknown ones are ignored."""
    arrays = TableReader(MIXED).rows([ROW, {"city": "Oslo", "income": 2, "age": 1.5}])
    np.testing.assert_array_equal(arrays["numbers"], np.float32([[30, np.nan], [1.5, 2]]))
    assert arrays["city"].tolist() == [["Rome"], ["Oslo"]]


@pytest.mark.parametrize("flags", [[True, False], [True, None], [True, 0.0]])
def test_flags_are_numbers_in_a_table(flags: list[object]) -> None:
    """A table's true and false are 1 and 0 where the model takes numbers."""
    spec = TensorSpec("x", Datatype.FP64, (-1, 1), (Column("member", Datatype.FP64, True),))
    array = TableReader(Signature((spec,), ())).rows([{"member": flag} for flag in flags])["x"]
    assert array[0, 0] == 1
    assert array[1, 0] == 0 or np.isnan(array[1, 0])


def test_columns_become_the_same_tensors() -> None:
    """A table by columns reads as the same table by rows."""
    by_columns = TableReader(MIXED).columns({"age": [30], "income": [None], "city": ["Rome"]})
    by_rows = TableReader(MIXED).rows([ROW])
    for name, array in by_rows.items():
        np.testing.assert_array_equal(array, by_columns[name])


@pytest.mark.parametrize(
    ("rows", "code", "field"),
    [
        ([{"age": 1, "city": "x"}], "missing_column", "income"),
        ([ROW, {**ROW, "age": "old"}], "wrong_datatype", "age"),
        ([ROW, {**ROW, "city": 7}], "wrong_datatype", "city"),
        ([ROW, {**ROW, "age": 1e40}], "out_of_range", "age"),
        ([ROW, 7], "bad_row", "rows[1]"),
        ([[1, 2, 3]], "bad_row", "rows[0]"),
    ],
)
def test_the_column_at_fault_is_named(rows: list[object], code: str, field: str) -> None:
    """A row that does not fit is refused with the column, and the row in the message."""
    with pytest.raises(Invalid) as caught:
        TableReader(MIXED).rows(rows)
    assert (caught.value.code, caught.value.field) == (code, field)


def test_rows_of_a_part_are_counted_in_the_whole() -> None:
    """A part of a longer table is refused by the row's number in that table."""
    reader = TableReader(MIXED, first_row=20_000)
    with pytest.raises(Invalid, match="in row 20001"):
        reader.rows([ROW, {**ROW, "age": "old"}])
    with pytest.raises(Invalid, match="missing in row 20001"):
        reader.rows([ROW, {}])
    with pytest.raises(Invalid) as caught:
        reader.rows([ROW, 7])
    assert caught.value.field == "rows[20001]"
    with pytest.raises(Invalid, match="in row 20000"):
        reader.columns({"age": ["old"], "income": [None], "city": ["Rome"]})


def test_predictions_carry_class_names() -> None:
    """A classifier's answer is a label a row and a probability a class name."""
    found = predictions(
        MIXED,
        {
            "label": np.array(["yes"], object),
            "probabilities": np.array([[0.25, 0.75]], np.float32),
        },
    )
    assert found == Predictions(["yes"], [{"no": 0.25, "yes": 0.75}])


@pytest.mark.parametrize(
    ("outputs", "values"),
    [
        ({"prediction": np.array([[1.5], [2.5]])}, [1.5, 2.5]),
        ({"prediction": np.array([[1.0, 2.0]])}, [[1.0, 2.0]]),
        ({"y": np.array([[1, 2], [3, 4]])}, [[1, 2], [3, 4]]),
        ({"a": np.array([1, 2]), "b": np.array([[3], [4]])}, [{"a": 1, "b": 3}, {"a": 2, "b": 4}]),
        ({"s": np.array(5.0)}, [5.0]),
    ],
)
def test_other_outputs_are_plain_values(
    outputs: dict[str, np.ndarray], values: list[object]
) -> None:
    """Whatever a model gives, a caller of rows gets one plain value a row."""
    assert predictions(Signature((), ()), outputs).values == values


COLUMNS = {
    "age": np.array([30, 1], np.int64),
    "income": np.array([[np.nan], [2.0]]),
    "city": np.array(["Rome", "Oslo"], object),
}


def test_one_array_a_column_reads_as_rows_do() -> None:
    """Of shape [rows] or [rows, 1], and of any datatype whose values fit the column's."""
    arrays = TableReader(MIXED).arrays(COLUMNS | {"ignored": np.zeros((2, 9))})
    np.testing.assert_array_equal(arrays["numbers"], np.float32([[30, np.nan], [1, 2]]))
    assert arrays["city"].tolist() == [["Rome"], ["Oslo"]]
    empty = {name: array[:0].reshape(0) for name, array in COLUMNS.items()}
    assert TableReader(MIXED).arrays(empty)["numbers"].shape == (0, 2)


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"city": None}, "missing_column", "city"),
        ({"age": np.zeros((2, 2))}, "wrong_shape", "age"),
        ({"age": np.array(3.0)}, "wrong_shape", "age"),
        ({"age": np.zeros((2, 1, 1))}, "wrong_shape", "age"),
        ({"age": np.array(["30", "1"], object)}, "wrong_datatype", "age"),
        ({"city": np.array([1, 2])}, "wrong_datatype", "city"),
        ({"age": np.array([30])}, "unequal_rows", None),
    ],
)
def test_an_array_that_is_no_column_is_refused(
    changes: dict[str, np.ndarray | None], code: str, field: str | None
) -> None:
    """A wrong shape, kind or length names its column."""
    arrays = {name: array for name, array in {**COLUMNS, **changes}.items() if array is not None}
    with pytest.raises(Invalid) as caught:
        TableReader(MIXED).arrays(arrays)
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize(
    ("tensors", "wanted"),
    [
        ([("numbers", "FP32", 2), ("city", "BYTES", 2)], False),
        ([("age", "INT64", 1), ("income", "FP64", 1), ("city", "BYTES", 1)], True),
        ([("age", "INT64", 1)], True),
        ([("city", "BYTES", 1), ("numbers", "FP32", 2)], False),
        ([("numbers", "FP64", 2), ("city", "BYTES", 2)], False),
        ([("nonsense", "FP32", 2)], False),
        ([], False),
    ],
)
def test_columns_are_told_from_the_models_own_tensors(
    tensors: list[tuple[str, str, int]], wanted: bool
) -> None:
    """By a column that is no input, or one of another kind; never beside an input of several."""
    assert TableReader(MIXED).is_by_column(tensors) is wanted
