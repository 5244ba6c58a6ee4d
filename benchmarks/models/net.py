"""A small convolutional net of MNIST's shape, weights random: cost is asked here, not skill."""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np

from benchmarks.models.graph import Graph
from benchmarks.models.reference import write_cases

_SEED = 21
_ROWS = 64
_SIDE = 28
_CLASSES = 10
_CHANNELS = (1, 10, 20)


def write(folder: Path) -> None:
    """Two convolutions with pooling, one dense layer, softmax."""
    graph = Graph("net", _SEED)
    value = "image"
    for before, after in pairwise(_CHANNELS):
        kernel = graph.weights(after, before, 5, 5, scale=(2 / (before * 25)) ** 0.5)
        bias = graph.weights(after, scale=0.1)
        value = graph.add("Conv", value, kernel, bias, pads=[2, 2, 2, 2])
        value = graph.add("Relu", value)
        value = graph.add("MaxPool", value, kernel_shape=[2, 2], strides=[2, 2])
    features = _CHANNELS[-1] * (_SIDE // 4) ** 2
    value = graph.add("Flatten", value)
    dense, bias = graph.weights(features, _CLASSES, scale=0.02), graph.weights(_CLASSES, scale=0.1)
    value = graph.add("Gemm", value, dense, bias)
    graph.add("Softmax", value, axis=1, output="probabilities")
    graph.save(
        folder / "model.onnx",
        [("image", "FP32", (1, _SIDE, _SIDE))],
        [("probabilities", "FP32", (_CLASSES,))],
    )
    random = np.random.default_rng(_SEED)
    write_cases(folder, {"image": random.random((_ROWS, 1, _SIDE, _SIDE), np.float32)})


if __name__ == "__main__":
    write(Path(sys.argv[1]))
