import numpy as np

from modelyard.api.http.plain import plain_list


def test_a_float32_is_written_in_its_own_digits() -> None:
    """float32 values become the shortest doubles that mean the same number."""
    assert plain_list(np.array([[0.98, 0.1]], np.float32)) == [[0.98, 0.1]]
    assert plain_list(np.array([0.1 + 0.2])) == [0.30000000000000004]


def test_values_keep_their_bits() -> None:
    """Read back as float32, every value is the one that was written."""
    array = np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32)
    np.testing.assert_array_equal(np.array(plain_list(array[:, 1]), np.float32), array[:, 1])


def test_what_is_no_number_is_missing() -> None:
    """NaN has no JSON: it is None, and other types are their own plain values."""
    assert plain_list(np.array([np.nan, 1], np.float32)) == [None, 1.0]
    assert plain_list(np.array(["a"], object)) == ["a"]
    assert plain_list(np.array([True])) == [True]
