"""The conformance suite of the `Runtime` port: subclass it, give it a runtime, and it proves it."""

import abc
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from modelyard.core.datatypes import Array
from modelyard.core.ports import Arrays, Runtime
from modelyard.core.signature import FREE, TensorSpec


class RuntimeSuite(abc.ABC):
    """Every runtime passes this. Override the two methods; `inputs` hold at least four rows."""

    @abc.abstractmethod
    def open(self) -> Runtime:
        """A fresh runtime of a batched model."""

    @abc.abstractmethod
    def inputs(self) -> Arrays:
        """Rows that its signature describes."""

    @pytest.fixture
    def runtime(self) -> Iterator[Runtime]:
        """A runtime that is closed after the test."""
        runtime = self.open()
        yield runtime
        runtime.close()

    def test_inputs_satisfy_the_signature(self, runtime: Runtime) -> None:
        """The suite's own rows are rows of this model."""
        assert runtime.signature.check(self.inputs()) >= 4

    def test_outputs_are_those_of_the_signature(self, runtime: Runtime) -> None:
        """Every output is there, in the datatype and shape that the signature names."""
        inputs = self.inputs()
        outputs = runtime.run(inputs)
        assert list(outputs) == [spec.name for spec in runtime.signature.outputs]
        for spec in runtime.signature.outputs:
            _check_output(spec, outputs[spec.name], _rows(inputs))

    def test_rows_do_not_influence_each_other(self, runtime: Runtime) -> None:
        """A batch gives what its rows give one by one."""
        inputs = self.inputs()
        together = runtime.run(inputs)
        for row in range(4):
            alone = runtime.run({name: array[row : row + 1] for name, array in inputs.items()})
            for name, array in alone.items():
                _check_equal(array, together[name][row : row + 1])

    def test_no_rows_give_no_rows(self, runtime: Runtime) -> None:
        """An empty batch is answered with empty outputs."""
        outputs = runtime.run({name: array[:0] for name, array in self.inputs().items()})
        for spec in runtime.signature.outputs:
            _check_output(spec, outputs[spec.name], 0)

    def test_inputs_are_not_written_to(self, runtime: Runtime) -> None:
        """The caller's arrays may be read-only views of a request's bytes."""
        inputs = {name: array.copy() for name, array in self.inputs().items()}
        for array in inputs.values():
            array.flags.writeable = False
        runtime.run(inputs)

    def test_threads_may_share_it(self, runtime: Runtime) -> None:
        """Calls from several threads at once give the same answers."""
        inputs = self.inputs()
        expected = runtime.run(inputs)
        with ThreadPoolExecutor(4) as pool:
            for outputs in pool.map(lambda _: runtime.run(inputs), range(16)):
                for name, array in outputs.items():
                    _check_equal(array, expected[name])

    def test_closing_twice_is_harmless(self) -> None:
        """`close` may be called again."""
        runtime = self.open()
        runtime.close()
        runtime.close()


def _rows(inputs: Arrays) -> int:
    return len(next(iter(inputs.values())))


def _check_output(spec: TensorSpec, array: Array, rows: int) -> None:
    assert isinstance(array, np.ndarray)
    assert array.dtype == spec.datatype.dtype
    assert array.ndim == len(spec.shape)
    assert len(array) == rows
    for got, wanted in zip(array.shape[1:], spec.shape[1:], strict=True):
        assert wanted in (FREE, got)
    if array.dtype == object:
        assert all(type(value) is str for value in array.reshape(-1))


def _check_equal(left: Array, right: Array) -> None:
    if left.dtype.kind == "f":
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)
    else:
        np.testing.assert_array_equal(left, right)
