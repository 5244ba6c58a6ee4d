"""Warm-up: a version is ready only after it has answered its own samples as recorded."""

import contextlib
import time
from collections.abc import Mapping
from typing import Final

import numpy as np

from modelyard.bundle.samples import Samples
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Unavailable
from modelyard.core.ports import Runtime
from modelyard.core.signature import FREE, TensorSpec
from modelyard.serving.agreement import agrees
from modelyard.serving.cost import BatchCost

_ROUNDS: Final = 3
_LENGTHS: Final = (32, 1)
"""How long made-up free axes are, such as a text's; the next where a model takes none so long."""


def warm_up(runtime: Runtime, samples: Samples | None) -> BatchCost:
    """Run the samples, hold the answers against the recorded ones, and learn what batches cost.

    Without samples nothing can be held against anything: the cost stays unknown, and the first
    batch runs in a lane. Raises `Unavailable` where an answer differs.
    """
    cost = BatchCost()
    if samples is None:
        return cost
    _compare(samples.outputs, runtime.run(samples.inputs))
    if not runtime.signature.batched:
        _measure(runtime, samples.inputs, 1, cost)
        return cost
    rows = min((len(array) for array in samples.inputs.values()), default=0)
    for count in sorted({1, rows}):
        if count:
            _measure(runtime, _head(samples.inputs, count), count, cost)
    return cost


def probe_us(runtime: Runtime) -> float | None:
    """What one row of made-up values costs, in microseconds; None where the model takes none.

    Good enough to tell a light model from a heavy one, and no more: on zeros a model may be quicker
    than on what callers send.
    """
    for length in _LENGTHS:
        inputs = {spec.name: _blank(spec, length) for spec in runtime.signature.inputs}
        # A model need not take what was made up.
        with contextlib.suppress(Exception):
            runtime.run(inputs)
            return _quickest_us(runtime, inputs)
    return None


def _blank(spec: TensorSpec, length: int) -> Array:
    shape = [length if axis == FREE else axis for axis in spec.shape]
    if spec.shape and spec.shape[0] == FREE:
        shape[0] = 1
    if spec.datatype is Datatype.BYTES:
        return np.full(shape, "", object)
    return np.zeros(shape, spec.datatype.dtype)


def _measure(runtime: Runtime, inputs: Mapping[str, Array], rows: int, cost: BatchCost) -> None:
    cost.observe(rows, _quickest_us(runtime, inputs))


def _quickest_us(runtime: Runtime, inputs: Mapping[str, Array]) -> float:
    """The quickest round: the others may hold somebody else's time slice."""
    took_us: list[float] = []
    for _ in range(_ROUNDS):
        started_ns = time.perf_counter_ns()
        runtime.run(inputs)
        took_us.append((time.perf_counter_ns() - started_ns) / 1000)
    return min(took_us)


def _head(arrays: Mapping[str, Array], rows: int) -> dict[str, Array]:
    return {name: array[:rows] for name, array in arrays.items()}


def _compare(recorded: Mapping[str, Array], answered: Mapping[str, Array]) -> None:
    for name, wanted in recorded.items():
        if not agrees(wanted, answered.get(name)):
            raise Unavailable(
                "samples_differ",
                f"on this machine output '{name}' of the bundle's own samples differs from what "
                "was recorded when it was published; publish the model again from here",
                field=name,
            )
