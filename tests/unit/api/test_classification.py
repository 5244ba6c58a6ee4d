import numpy as np
import pytest

from modelyard.api.classification import best_classes, class_count
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import Column, TensorSpec

PLAIN = TensorSpec("p", Datatype.FP32, (-1, 4))
NAMED = TensorSpec(
    "p", Datatype.FP32, (-1, 2), (Column("apple", Datatype.FP32), Column("pear", Datatype.FP32))
)


def test_the_largest_values_come_first_with_their_index() -> None:
    """Triton's own example: the two largest of four, as value and index."""
    array = np.array([[1.1, 3.3, 0.5, 2.4]], np.float32)
    assert best_classes(PLAIN, array, 2, batched=True).tolist() == [["3.3:1", "2.4:3"]]


def test_columns_of_the_signature_are_the_labels() -> None:
    """Where the signature names the classes, so does the answer; it has no more than there are."""
    array = np.array([[0.25, 0.75]], np.float32)
    best = best_classes(NAMED, array, 9, batched=True)
    assert best.tolist() == [["0.75:1:pear", "0.25:0:apple"]]


def test_equal_values_keep_their_order_and_nan_comes_last() -> None:
    """Ties go to the lower index; what is no number is never the best."""
    array = np.array([[np.nan, 1, 1, 0]], np.float32)
    best = best_classes(PLAIN, array, 4, batched=True)
    assert best.tolist() == [["1.0:1", "1.0:2", "0.0:3", "nan:0"]]


@pytest.mark.parametrize(
    ("array", "wanted"),
    [
        (np.array([2**64 - 1, 5], np.uint64), ["18446744073709551615:0", "5:1"]),
        (np.array([-5, 5], np.int8), ["5:1", "-5:0"]),
        (np.array([False, True]), ["1:1", "0:0"]),
    ],
)
def test_a_tensor_without_a_batch_is_one_row(array: np.ndarray, wanted: list[str]) -> None:
    """Whole numbers and truth values are compared as what they are, to their last digit."""
    assert best_classes(PLAIN, array, 2, batched=False).tolist() == wanted


def test_no_rows_have_no_classes() -> None:
    """An empty batch gives an empty tensor of the right width."""
    best = best_classes(PLAIN, np.zeros((0, 4), np.float32), 2, batched=True)
    assert best.shape == (0, 2)


@pytest.mark.parametrize("count", [0, -1, True, "2", 2.0, None])
def test_the_count_is_a_whole_number_from_one(count: object) -> None:
    """Anything else is refused and named."""
    with pytest.raises(Invalid, match="how many classes"):
        class_count(PLAIN, count)


def test_text_has_no_classes() -> None:
    """A label cannot be ranked."""
    with pytest.raises(Invalid) as caught:
        class_count(TensorSpec("label", Datatype.BYTES, (-1,)), 1)
    assert (caught.value.code, caught.value.field) == ("not_classes", "label")
