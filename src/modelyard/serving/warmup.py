"""Warm-up: a version is ready only after it has answered its own samples as recorded."""

import time
from collections.abc import Mapping
from typing import Final

import numpy as np

from modelyard.bundle.samples import Samples
from modelyard.core.datatypes import Array
from modelyard.core.errors import Unavailable
from modelyard.core.ports import Runtime
from modelyard.serving.cost import BatchCost

_TOLERANCE: Final = 1e-4
"""Relative to the larger of 1 and the recorded number: another processor rounds differently."""
_ROUNDS: Final = 3


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


def _measure(runtime: Runtime, inputs: Mapping[str, Array], rows: int, cost: BatchCost) -> None:
    took_us: list[float] = []
    for _ in range(_ROUNDS):
        started_ns = time.perf_counter_ns()
        runtime.run(inputs)
        took_us.append((time.perf_counter_ns() - started_ns) / 1000)
    # The fastest round: the others may hold somebody else's time slice.
    cost.observe(rows, min(took_us))


def _head(arrays: Mapping[str, Array], rows: int) -> dict[str, Array]:
    return {name: array[:rows] for name, array in arrays.items()}


def _compare(recorded: Mapping[str, Array], answered: Mapping[str, Array]) -> None:
    for name, wanted in recorded.items():
        got = answered.get(name)
        if got is None or got.shape != wanted.shape or not _equal(wanted, got):
            raise Unavailable(
                "samples_differ",
                f"on this machine output '{name}' of the bundle's own samples differs from what "
                "was recorded when it was published; publish the model again from here",
                field=name,
            )


def _equal(wanted: Array, got: Array) -> bool:
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(wanted, got))
    # float16 and huge float32 values would overflow in their own arithmetic.
    near = np.abs(got.astype(np.float64) - wanted.astype(np.float64)) <= _TOLERANCE * np.maximum(
        1.0, np.abs(wanted.astype(np.float64))
    )
    return bool(np.all(near | (wanted == got) | (np.isnan(wanted) & ~np.isfinite(got))))
