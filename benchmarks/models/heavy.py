"""A model of 300 MB whose call takes some milliseconds: a large table and four dense layers."""

import sys
from pathlib import Path

import numpy as np

from benchmarks.models.graph import Graph
from benchmarks.models.reference import write_cases

_SEED = 23
_ROWS = 16
_WIDTH = 2_048
_ENTRIES = 29_000
_LAYERS = 4
_ANSWER = 8


def write(folder: Path) -> None:
    """A look-up and dense layers of 2048 by 2048; 240 MB and 67 MB of weights."""
    graph = Graph("heavy", _SEED)
    value = graph.add("Gather", graph.weights(_ENTRIES, _WIDTH, scale=1.0), "entry")
    value = graph.add("Squeeze", value, graph.shape(1))
    for _ in range(_LAYERS):
        value = graph.add("MatMul", value, graph.weights(_WIDTH, _WIDTH, scale=_WIDTH**-0.5))
        value = graph.add("Tanh", value)
    graph.add("MatMul", value, graph.weights(_WIDTH, _ANSWER, scale=0.02), output="scores")
    graph.save(folder / "model.onnx", [("entry", "INT64", (1,))], [("scores", "FP32", (_ANSWER,))])
    random = np.random.default_rng(_SEED)
    write_cases(folder, {"entry": random.integers(0, _ENTRIES, (_ROWS, 1))})


if __name__ == "__main__":
    write(Path(sys.argv[1]))
