"""Finds out by running a graph whether its leading axis is a batch, and what its outputs are."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.signature import FREE, TensorSpec

Run = Callable[[Mapping[str, Array]], dict[str, Array]]
_TRIES: Final = ("integers", "ones", "random", "letters")
_LENGTHS: Final = (2, 1, 4)
_MOST_ELEMENTS: Final = 2**24


@dataclass(frozen=True, slots=True)
class Findings:
    """Whether rows are independent, and the output shapes of the runs that went through."""

    batched: bool
    shapes: tuple[Mapping[str, tuple[int, ...]], ...] = ()

    @property
    def ran(self) -> bool:
        """Whether any run went through."""
        return bool(self.shapes)


def probe(
    run: Run,
    inputs: tuple[TensorSpec, ...],
    symbols: Mapping[tuple[str, int], str],
    sample: Mapping[str, Array] | None,
) -> Findings:
    """Run the graph on the sample, or on made-up inputs of several kinds and sizes.

    `symbols` names free axes that share a length. The leading axis is a batch only if it is free
    everywhere, three rows together give what they give one by one, and outputs are as long as
    inputs are. A graph that refuses every input that we can make up counts as not batched.
    """
    may_batch = bool(inputs) and all(spec.shape[:1] == (FREE,) for spec in inputs)
    shapes: list[Mapping[str, tuple[int, ...]]] = []
    verdicts: list[bool] = []
    for candidate in _candidates(inputs, symbols, sample):
        together = _try(run, candidate)
        if together is None:
            continue
        shapes.append({name: array.shape for name, array in together.items()})
        if not may_batch:
            break
        verdicts.append(_is_independent(run, candidate, together))
        if not verdicts[-1] or len(verdicts) == len(_TRIES):
            break
    return Findings(may_batch and bool(verdicts) and all(verdicts), tuple(shapes))


def _candidates(
    inputs: tuple[TensorSpec, ...],
    symbols: Mapping[tuple[str, int], str],
    sample: Mapping[str, Array] | None,
) -> Iterator[dict[str, Array]]:
    if sample is not None:
        yield dict(sample)
        return
    random = np.random.default_rng(0)
    # A free axis may have to be of some length (a window, a channel count) that only a try finds.
    for length in (*_LENGTHS, 8, 16, 32):
        for kind in _TRIES:
            made = {spec.name: _made(spec, symbols, length, kind, random) for spec in inputs}
            if all(array.size <= _MOST_ELEMENTS for array in made.values()):
                yield made


def _made(
    spec: TensorSpec,
    symbols: Mapping[tuple[str, int], str],
    length: int,
    kind: str,
    random: np.random.Generator,
) -> Array:
    leading = symbols.get((spec.name, 0))
    shape = tuple(
        size
        if size != FREE
        else 3
        if axis == 0 or (leading is not None and symbols.get((spec.name, axis)) == leading)
        else length
        for axis, size in enumerate(spec.shape)
    )
    return _values(spec.datatype, shape, kind, random)


def _values(
    datatype: Datatype, shape: tuple[int, ...], kind: str, random: np.random.Generator
) -> Array:
    if datatype is Datatype.BYTES:
        # Some graphs read numbers out of text, others look words up.
        words = np.array(["x", "yes", "é"] if kind == "letters" else ["1", "2", "30"], object)
        return words[random.integers(0, 3, shape)] if shape else words[:1].reshape(())
    if datatype is Datatype.BOOL:
        return np.asarray(random.integers(0, 2, shape), np.bool_)
    if kind == "ones":
        return np.ones(shape, datatype.dtype)
    if kind == "random" and datatype.is_float:
        return np.asarray(random.standard_normal(shape), datatype.dtype)
    return np.asarray(random.integers(0, 3, shape), datatype.dtype)


def _try(run: Run, inputs: Mapping[str, Array]) -> dict[str, Array] | None:
    try:
        return run(inputs)
    except Exception:  # noqa: BLE001 - onnxruntime's exceptions have no common base
        return None


def _is_independent(run: Run, inputs: Mapping[str, Array], together: Mapping[str, Array]) -> bool:
    rows = len(next(iter(inputs.values())))
    if any(array.ndim == 0 or len(array) != rows for array in together.values()):
        return False
    reversed_rows = _try(run, {name: array[::-1] for name, array in inputs.items()})
    if reversed_rows is None or not _agree(
        {name: array[::-1] for name, array in reversed_rows.items()}, together
    ):
        return False
    for row in range(min(rows, 8)):
        alone = _try(run, {name: array[row : row + 1] for name, array in inputs.items()})
        expected = {name: array[row : row + 1] for name, array in together.items()}
        if alone is None or not _agree(alone, expected):
            return False
    return True


def _agree(left: Mapping[str, Array], right: Mapping[str, Array]) -> bool:
    for name, one in left.items():
        other = right[name]
        if one.shape != other.shape:
            return False
        if one.dtype.kind == "f":
            loose = 1e-2 if one.dtype.itemsize == 2 else 1e-4
            if not np.allclose(one, other, rtol=loose, atol=loose / 10, equal_nan=True):
                return False
        elif not np.array_equal(one, other):
            return False
    return True
