import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.call import Call
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import ModelyardError
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature, TensorSpec
from modelyard.serving.batch import run_batch
from modelyard.testing.serving import FunctionRuntime

KINDS = {
    Datatype.FP16: np.float16,
    Datatype.FP32: np.float32,
    Datatype.FP64: np.float64,
    Datatype.INT8: np.int8,
    Datatype.UINT64: np.uint64,
    Datatype.BOOL: np.bool_,
    Datatype.BYTES: np.object_,
}


def echo(datatype: Datatype) -> FunctionRuntime:
    specs = tuple(TensorSpec(name, datatype, (-1, 3)) for name in ("a", "b"))
    return FunctionRuntime(Signature(specs, specs), lambda inputs: inputs)


def a_call(inputs: Arrays) -> Call:
    return Call(None, inputs, len(inputs["a"]), lambda _: None)  # type: ignore[arg-type]


def numbers(datatype: Datatype, rows: int, start: int) -> Array:
    values = np.arange(start, start + rows * 3).reshape(rows, 3)
    return (
        values.astype(str).astype(object)
        if datatype is Datatype.BYTES
        else (values.astype(KINDS[datatype]))
    )


@pytest.mark.parametrize("datatype", KINDS)
@given(rows=st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_each_call_gets_its_own_rows(datatype: Datatype, rows: list[int]) -> None:
    """Joined and taken apart again, every datatype and every number of rows, none too."""
    calls = [
        a_call({"a": numbers(datatype, count, 10 * place), "b": numbers(datatype, count, place)})
        for place, count in enumerate(rows)
    ]
    results = run_batch(echo(datatype), calls)
    for call, result in zip(calls, results, strict=True):
        assert not isinstance(result, ModelyardError)
        for name in ("a", "b"):
            assert result[name].dtype == call.inputs[name].dtype
            np.testing.assert_array_equal(result[name], call.inputs[name])


def test_arrays_that_do_not_lie_in_one_piece_are_joined_all_the_same() -> None:
    """A column cut out of a table, and one in another order, come out as they are."""
    table = np.arange(60, dtype=np.float32).reshape(10, 6)
    cut = {"a": table[:2, ::2], "b": np.asfortranarray(table[:2, :3])}
    whole = {"a": table[:2, :3].copy(), "b": table[:2, 3:].copy()}
    results = run_batch(echo(Datatype.FP32), [a_call(cut), a_call(whole)])
    for call, result in zip((cut, whole), results, strict=True):
        assert not isinstance(result, ModelyardError)
        for name, array in call.items():
            np.testing.assert_array_equal(result[name], array)


def test_large_arrays_are_joined() -> None:
    """Beyond what is joined as bytes the answer is the same."""
    specs = (TensorSpec("a", Datatype.FP64, (-1, 50_000)),)
    runtime = FunctionRuntime(Signature(specs, specs), lambda inputs: inputs)
    arrays = [np.full((1, 50_000), float(place)) for place in range(3)]
    for array, result in zip(
        arrays, run_batch(runtime, [a_call({"a": array}) for array in arrays]), strict=True
    ):
        assert not isinstance(result, ModelyardError)
        np.testing.assert_array_equal(result["a"], array)
