"""A text encoder of MiniLM's size, weights random: 6 layers of 384, 12 heads, 64 tokens.

Ids and mask in, one vector of length one a sentence out: the mean of the tokens' last states.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.models.graph import Graph
from benchmarks.models.reference import write_cases

_SEED = 22
_ROWS = 16
_VOCABULARY = 30_522
_LAYERS = 6
_HIDDEN = 384
_HEADS = 12
_HEAD = _HIDDEN // _HEADS
_INNER = 1_536
_TOKENS = 64
_SCALE = 0.02
_MASKED = -10_000.0


def write(folder: Path) -> None:
    """Embed, six layers of attention, mean over the tokens that are there."""
    graph = Graph("encoder", _SEED)
    mask = graph.add("Cast", "attention_mask", to=1)
    state = _embed(graph)
    penalty = _penalty(graph, mask)
    for _ in range(_LAYERS):
        state = _normalised(graph, graph.add("Add", state, _attend(graph, state, penalty)))
        state = _normalised(graph, graph.add("Add", state, _feed_forward(graph, state)))
    _pool(graph, state, mask)
    tokens = (_TOKENS,)
    graph.save(
        folder / "model.onnx",
        [("input_ids", "INT64", tokens), ("attention_mask", "INT64", tokens)],
        [("sentence", "FP32", (_HIDDEN,))],
    )
    write_cases(folder, _sentences())


def _sentences() -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    random = np.random.default_rng(_SEED)
    lengths = random.integers(_TOKENS // 4, _TOKENS + 1, (_ROWS, 1))
    mask = (np.arange(_TOKENS) < lengths).astype(np.int64)
    return {
        "input_ids": random.integers(1, _VOCABULARY, (_ROWS, _TOKENS)) * mask,
        "attention_mask": mask,
    }


def _embed(graph: Graph) -> str:
    words = graph.add("Gather", graph.weights(_VOCABULARY, _HIDDEN, scale=_SCALE), "input_ids")
    positions = graph.weights(_TOKENS, _HIDDEN, scale=_SCALE)
    return _normalised(graph, graph.add("Add", words, positions))


def _penalty(graph: Graph, mask: str) -> str:
    """What is added to the scores of tokens that are not there, as [batch, 1, 1, tokens]."""
    absent = graph.add("Sub", graph.scalar(1.0), mask)
    penalty = graph.add("Mul", absent, graph.scalar(_MASKED))
    return graph.add("Unsqueeze", penalty, graph.shape(1, 2))


def _attend(graph: Graph, state: str, penalty: str) -> str:
    query = _heads(graph, _dense(graph, state, _HIDDEN, _HIDDEN), [0, 2, 1, 3])
    key = _heads(graph, _dense(graph, state, _HIDDEN, _HIDDEN), [0, 2, 3, 1])
    value = _heads(graph, _dense(graph, state, _HIDDEN, _HIDDEN), [0, 2, 1, 3])
    scores = graph.add("MatMul", query, key)
    scores = graph.add("Div", scores, graph.scalar(_HEAD**0.5))
    weights = graph.add("Softmax", graph.add("Add", scores, penalty), axis=-1)
    mixed = graph.add("Transpose", graph.add("MatMul", weights, value), perm=[0, 2, 1, 3])
    joined = graph.add("Reshape", mixed, graph.shape(0, _TOKENS, _HIDDEN))
    return _dense(graph, joined, _HIDDEN, _HIDDEN)


def _heads(graph: Graph, state: str, order: list[int]) -> str:
    parts = graph.add("Reshape", state, graph.shape(0, _TOKENS, _HEADS, _HEAD))
    return graph.add("Transpose", parts, perm=order)


def _feed_forward(graph: Graph, state: str) -> str:
    inner = graph.add("Gelu", _dense(graph, state, _HIDDEN, _INNER))
    return _dense(graph, inner, _INNER, _HIDDEN)


def _dense(graph: Graph, state: str, before: int, after: int) -> str:
    product = graph.add("MatMul", state, graph.weights(before, after, scale=before**-0.5))
    return graph.add("Add", product, graph.weights(after, scale=_SCALE))


def _normalised(graph: Graph, state: str) -> str:
    scale, bias = np.ones(_HIDDEN, np.float32), np.zeros(_HIDDEN, np.float32)
    return graph.add(
        "LayerNormalization", state, graph.constant(scale), graph.constant(bias), epsilon=1e-12
    )


def _pool(graph: Graph, state: str, mask: str) -> None:
    weights = graph.add("Unsqueeze", mask, graph.shape(2))
    axis = graph.shape(1)
    total = graph.add("ReduceSum", graph.add("Mul", state, weights), axis, keepdims=0)
    count = graph.add("ReduceSum", mask, axis, keepdims=1)
    graph.add("LpNormalization", graph.add("Div", total, count), axis=1, p=2, output="sentence")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
