"""The smallest model worth deploying a thousand times: one dense layer over 30 numbers."""

import sys
from pathlib import Path

import numpy as np

from benchmarks.models.graph import Graph
from benchmarks.models.reference import write_cases

_SEED = 24
_ROWS = 64
_FEATURES = 30
_CLASSES = 2


def write(folder: Path) -> None:
    """A linear layer and a softmax."""
    graph = Graph("small", _SEED)
    weights, bias = graph.weights(_FEATURES, _CLASSES, scale=0.3), graph.weights(_CLASSES, scale=1)
    value = graph.add("Gemm", "input", weights, bias)
    graph.add("Softmax", value, axis=1, output="probabilities")
    graph.save(
        folder / "model.onnx",
        [("input", "FP32", (_FEATURES,))],
        [("probabilities", "FP32", (_CLASSES,))],
    )
    random = np.random.default_rng(_SEED)
    write_cases(folder, {"input": random.random((_ROWS, _FEATURES), np.float32)})


if __name__ == "__main__":
    write(Path(sys.argv[1]))
