"""What is learned of a model that brings no samples."""

import time

import numpy as np
import pytest

from modelyard.core.datatypes import Datatype
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature, TensorSpec
from modelyard.serving.warmup import probe_us, warm_up
from modelyard.testing.serving import FunctionRuntime

ENCODER = Signature(
    (
        TensorSpec("ids", Datatype.INT64, (-1, -1)),
        TensorSpec("words", Datatype.BYTES, (-1, 2)),
        TensorSpec("scale", Datatype.FP32, ()),
    ),
    (TensorSpec("y", Datatype.FP32, (-1,)),),
)


def test_a_model_without_samples_is_tried_on_one_row_of_made_up_values() -> None:
    """One row, free axes of some length, strings empty, numbers zero; what it costs is told."""
    seen: list[Arrays] = []

    def run(inputs: Arrays) -> Arrays:
        seen.append(inputs)
        time.sleep(0.003)
        return {"y": np.zeros(1, np.float32)}

    us = probe_us(FunctionRuntime(ENCODER, run))
    assert us is not None
    assert us > 3000
    shapes = {name: array.shape for name, array in seen[0].items()}
    assert shapes == {"ids": (1, 32), "words": (1, 2), "scale": ()}
    assert seen[0]["words"].tolist() == [["", ""]]


def test_a_model_that_takes_no_long_axis_is_tried_on_a_short_one() -> None:
    """Where made-up values are refused, shorter ones are tried; then nothing is known."""

    def only_short(inputs: Arrays) -> Arrays:
        if inputs["ids"].shape[1] > 1:
            raise ValueError
        return {"y": np.zeros(1, np.float32)}

    def never(inputs: Arrays) -> Arrays:
        raise ValueError

    assert probe_us(FunctionRuntime(ENCODER, only_short)) is not None
    assert probe_us(FunctionRuntime(ENCODER, never)) is None


@pytest.mark.parametrize("length", [1, 5])
def test_made_up_values_say_nothing_of_where_a_batch_runs(length: int) -> None:
    """Without samples the cost of batches stays unknown: the first runs in a lane."""
    runtime = FunctionRuntime(ENCODER, lambda inputs: {"y": np.zeros(length, np.float32)})
    assert not warm_up(runtime, None).is_known
