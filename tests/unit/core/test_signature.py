import numpy as np
import pytest

from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import Column, Signature, TensorSpec

TABLE = TensorSpec(
    "input",
    Datatype.FP32,
    (-1, 2),
    (Column("age", Datatype.FP32), Column("income", Datatype.FP32, nullable=True)),
)
CITY = TensorSpec(
    "city",
    Datatype.BYTES,
    (-1, 1),
    (Column("city", Datatype.BYTES, categories=("Rome", "Oslo")),),
)
SIGNATURE = Signature((TABLE, CITY), (TensorSpec("label", Datatype.INT64, (-1,)),))


def inputs(**changes: object) -> dict[str, np.ndarray]:
    arrays = {
        "input": np.array([[1, 2], [3, np.nan]], np.float32),
        "city": np.array([["Rome"], ["Oslo"]], object),
    }
    arrays.update(changes)  # type: ignore[arg-type]
    return {name: array for name, array in arrays.items() if array is not None}


def test_fitting_arrays_give_their_rows() -> None:
    """What the signature describes passes, and its rows are counted."""
    assert SIGNATURE.check(inputs()) == 2


@pytest.mark.parametrize(
    ("changes", "code", "field"),
    [
        ({"city": None}, "missing_input", "city"),
        ({"extra": np.zeros(1)}, "unknown_input", "extra"),
        ({"input": np.zeros((2, 2), np.float64)}, "wrong_datatype", "input"),
        ({"input": np.zeros(2, np.float32)}, "wrong_rank", "input"),
        ({"input": np.zeros((2, 3), np.float32)}, "wrong_shape", "input"),
        ({"input": np.zeros((3, 2), np.float32)}, "unequal_rows", "city"),
        ({"input": np.array([[np.nan, 1], [1, 1]], np.float32)}, "not_finite", "age"),
        ({"input": np.array([[np.inf, 1], [1, 1]], np.float32)}, "not_finite", "age"),
        ({"input": np.array([[1, 1], [1, np.inf]], np.float32)}, "not_finite", "income"),
        ({"city": np.array([["Rome"], ["Paris"]], object)}, "unseen_category", "city"),
    ],
)
def test_misfits_name_the_field(changes: dict[str, object], code: str, field: str) -> None:
    """Each way of not fitting has its own code and names the input or column at fault."""
    with pytest.raises(Invalid) as caught:
        SIGNATURE.check(inputs(**changes))
    assert (caught.value.code, caught.value.field) == (code, field)


@pytest.mark.parametrize(
    "changes",
    [
        {"input": np.array([[1, 1], [np.nan, 1]], np.float32)},
        {"city": np.array([["Rome"], ["Paris"]], object)},
    ],
)
def test_rows_of_a_part_are_counted_in_the_whole(changes: dict[str, object]) -> None:
    """A part of a longer table is refused by the row's number in that table."""
    with pytest.raises(Invalid, match="in row 20001"):
        SIGNATURE.check(inputs(**changes), first_row=20_000)


def test_infinity_is_no_value_of_a_table() -> None:
    """A column that may be missing may not be infinite, whether or not its neighbours may."""
    column = Column("x", Datatype.FP32, nullable=True)
    signature = Signature((TensorSpec("x", Datatype.FP32, (-1, 1), (column,)),), ())
    assert signature.check({"x": np.array([[np.nan]], np.float32)}) == 1
    with pytest.raises(Invalid) as caught:
        signature.check({"x": np.array([[np.inf]], np.float32)})
    assert (caught.value.code, caught.value.field) == ("not_finite", "x")


def test_open_categories_take_anything() -> None:
    """A model that knows what to do with an unknown category is given it."""
    column = Column("city", Datatype.BYTES, categories=("Rome",), open_categories=True)
    spec = TensorSpec("city", Datatype.BYTES, (-1, 1), (column,))
    assert Signature((spec,), ()).check({"city": np.array([["Paris"]], object)}) == 1


def test_an_unbatched_model_has_one_row() -> None:
    """A call to a model without a batch axis counts as one row, whatever its shapes."""
    signature = Signature((TensorSpec("x", Datatype.FP32, (3,)),), (), batched=False)
    assert signature.check({"x": np.zeros(3, np.float32)}) == 1
