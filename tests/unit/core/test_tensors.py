import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid
from modelyard.core.tensors import check_shape, from_list, from_raw, to_raw

SHAPES = arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)


def tensors(datatype: Datatype) -> st.SearchStrategy[np.ndarray]:
    if datatype is Datatype.BYTES:
        return arrays.arrays(object, SHAPES, elements=TEXT, fill=st.nothing())
    return arrays.arrays(datatype.dtype, SHAPES)


def equal(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return one.tobytes() == other.tobytes() if one.dtype.kind != "O" else bool((one == other).all())


@pytest.mark.parametrize("datatype", list(Datatype))
@given(data=st.data())
def test_raw_bytes_keep_every_bit(datatype: Datatype, data: st.DataObject) -> None:
    """A tensor of any datatype comes back from raw bytes as it was, NaN payloads included."""
    array = data.draw(tensors(datatype))
    assert equal(from_raw(datatype, array.shape, to_raw(array), "x"), array)


@pytest.mark.parametrize("datatype", list(Datatype))
@given(data=st.data())
def test_json_values_keep_every_finite_number(datatype: Datatype, data: st.DataObject) -> None:
    """A tensor of any datatype comes back from its flat and its nested list."""
    array = data.draw(tensors(datatype))
    if datatype.is_float:
        array = np.where(np.isfinite(array), array, datatype.dtype.type(0))
    shape = array.shape
    assert equal(from_list(datatype, shape, array.reshape(-1).tolist(), "x"), array)
    if shape and 0 not in shape:
        assert equal(from_list(datatype, shape, array.tolist(), "x"), array)


@pytest.mark.parametrize(
    ("datatype", "data", "code"),
    [
        (Datatype.FP32, ["1.5"], "wrong_datatype"),
        (Datatype.FP32, [True], "wrong_datatype"),
        (Datatype.FP32, [{}], "wrong_datatype"),
        (Datatype.FP32, [1e39], "out_of_range"),
        (Datatype.FP16, [70000], "out_of_range"),
        (Datatype.FP32, "abc", "bad_data"),
        (Datatype.FP32, None, "bad_data"),
        (Datatype.FP32, [[1.0], [1.0, 2.0]], "bad_data"),
        (Datatype.FP32, [1.0, 2.0], "wrong_length"),
        (Datatype.INT64, [1.5], "wrong_datatype"),
        (Datatype.INT64, [None], "wrong_datatype"),
        (Datatype.INT64, [2**63], "out_of_range"),
        (Datatype.INT64, [2**80], "wrong_datatype"),
        (Datatype.INT64, [1e300], "wrong_datatype"),
        (Datatype.UINT8, [256], "out_of_range"),
        (Datatype.UINT8, [-1], "out_of_range"),
        (Datatype.BOOL, [2], "wrong_datatype"),
        (Datatype.BOOL, ["true"], "wrong_datatype"),
        (Datatype.BYTES, [1], "wrong_datatype"),
        (Datatype.BYTES, [{"a": 1}], "wrong_datatype"),
    ],
)
def test_values_of_another_kind_are_refused(datatype: Datatype, data: object, code: str) -> None:
    """No string becomes a number, no fraction an integer, no overflow wraps around."""
    with pytest.raises(Invalid) as caught:
        from_list(datatype, (1,), data, "x")
    assert (caught.value.code, caught.value.field) == (code, "x")


def test_whole_floats_are_integers() -> None:
    """JSON has one kind of number, so 3.0 is accepted where an integer is wanted."""
    assert from_list(Datatype.INT32, (2,), [3.0, -2.0], "x").tolist() == [3, -2]


def test_null_is_a_missing_number() -> None:
    """A null becomes NaN in a float tensor and an empty string in a BYTES tensor."""
    assert np.isnan(from_list(Datatype.FP32, (2,), [1, None], "x")[1])
    assert from_list(Datatype.BYTES, (2,), ["a", None], "x").tolist() == ["a", ""]


@pytest.mark.parametrize(
    ("datatype", "shape", "raw", "code"),
    [
        (Datatype.FP32, (2,), b"1234", "wrong_length"),
        (Datatype.BOOL, (1,), b"\x02", "bad_data"),
        (Datatype.BYTES, (1,), b"\x05\0\0\0abc", "wrong_length"),
        (Datatype.BYTES, (1,), b"\x01\0\0\0ab", "wrong_length"),
        (Datatype.BYTES, (2,), b"\x01\0\0\0a\0\0\0", "wrong_length"),
        (Datatype.BYTES, (1,), b"\x01\0\0\0\xff", "not_utf8"),
        (Datatype.BYTES, (1 << 40,), b"", "wrong_length"),
    ],
)
def test_raw_bytes_that_do_not_fit_are_refused(
    datatype: Datatype, shape: tuple[int, ...], raw: bytes, code: str
) -> None:
    """Too few, too many or impossible bytes are named, and a false count allocates nothing."""
    with pytest.raises(Invalid) as caught:
        from_raw(datatype, shape, raw, "x")
    assert caught.value.code == code


def test_an_unaligned_view_is_copied() -> None:
    """Native code never sees elements at odd addresses."""
    body = memoryview(b"x" + np.arange(4, dtype="<f4").tobytes())
    array = from_raw(Datatype.FP32, (4,), body[1:], "x")
    assert array.flags.aligned
    assert array.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("shape", [None, "3", [1.0], [True], [-1], [[1]], {"a": 1}])
def test_a_shape_is_a_list_of_lengths(shape: object) -> None:
    """Anything but a list of whole, non-negative numbers is no shape."""
    with pytest.raises(Invalid, match="shape"):
        check_shape(shape, "x")


@pytest.mark.parametrize("datatype", [Datatype.FP16, Datatype.FP32, Datatype.FP64])
@pytest.mark.parametrize("data", [[10**400], [None, 10**400], [10**400, 1.5], [[10**400]]])
def test_an_integer_beyond_every_float_is_refused(datatype: Datatype, data: list[object]) -> None:
    """JSON integers have no end; one that no float can hold is the caller's error."""
    with pytest.raises(Invalid):
        from_list(datatype, (len(data),), data, "x")


@pytest.mark.parametrize("length", [2**63, 10**4000])
def test_a_length_beyond_every_memory_is_refused(length: int) -> None:
    """An axis longer than any address is refused before anybody multiplies or prints it."""
    with pytest.raises(Invalid) as caught:
        check_shape([length] * 30, "x")
    assert caught.value.code == "bad_shape"


def test_an_empty_tensor_claims_no_more_rows_than_can_be_counted() -> None:
    """Its data bounds it by nothing, and its call must be metered all the same."""
    assert check_shape([2**31, 0], "x") == (2**31, 0)
    with pytest.raises(Invalid, match="too large"):
        check_shape([2**31 + 1, 0], "x")
