"""Tries conversions from the fastest to the most exact; the first that is proven equal wins."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from modelyard.bundle.manifest import Conversion, Format
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import MissingExtra, ModelyardError
from modelyard.core.ports import Arrays, Runtime
from modelyard.core.signature import Signature
from modelyard.optimise.convert import Attempt, convert
from modelyard.optimise.parity import TOLERANCE, Parity, prove_equal
from modelyard.optimise.rows import hard_rows
from modelyard.runtimes.onnx import OnnxRuntime, open_session
from modelyard.runtimes.steps import last_step, walk

_LARGEST_EXACT: Final = 2.0**24
_SINGLE = Attempt(Datatype.FP32)
_DOUBLE = Attempt(Datatype.FP64)
_DOUBLE_CAST = Attempt(Datatype.FP64, cast_trees=True)


@dataclass(frozen=True, slots=True)
class Converted:
    """What came of it: the graph and its signature where one was proven equal, and the verdict."""

    verdict: Conversion
    graph: bytes | None = None
    signature: Signature | None = None


def convert_proven(model: Any, native: Runtime, inputs: Arrays) -> Converted:
    """An ONNX graph of a fitted estimator that gives the native runtime's answers, if there is one.

    Proven on the rows given and on as many again made of them (see `hard_rows`).
    """
    shared = {spec.name for spec in native.signature.inputs} & {
        spec.name for spec in native.signature.outputs
    }
    if shared:
        reason = f"an ONNX graph cannot have an input and an output both called '{min(shared)}'"
        return Converted(Conversion(Format.ONNX, "unsupported", reason))
    rows = hard_rows(native.signature, inputs)
    failures: list[tuple[Attempt, Parity | str]] = []
    for attempt in attempts(model, rows):
        try:
            graph, signature = convert(model, native.signature, attempt)
            runtime = OnnxRuntime(open_session(graph), signature)
            parity = prove_equal(native, runtime, rows)
        except MissingExtra:
            raise
        except Exception as error:  # noqa: BLE001 - a converter's failure is a verdict, not ours
            failures.append((attempt, _first_line(error)))
            continue
        if parity.is_equal:
            return Converted(_equal(parity, attempt), graph, signature)
        failures.append((attempt, parity))
    return Converted(_failed(failures))


def attempts(model: Any, rows: Arrays) -> list[Attempt]:
    """The rungs worth trying, best first.

    Trees cut exactly: what stands before them must be computed as scikit-learn computes it, in
    float64, and then be rounded where scikit-learn rounds. Smooth models bear float32.
    """
    last = last_step(getattr(last_step(model), "estimator_", None) or last_step(model))
    alone = not any(hasattr(part, "transform") for part in walk(model))
    kind = type(last).__name__
    if kind.startswith(("HistGradientBoosting", "LGBM")) or "Neighbors" in kind:
        return [_DOUBLE, _DOUBLE_CAST, _SINGLE]
    if any(word in kind for word in ("Tree", "Forest", "Boosting", "XGB", "Bagging", "AdaBoost")):
        if alone and _fits_single(rows):
            return [_SINGLE, _DOUBLE_CAST, _DOUBLE]
        return [_DOUBLE_CAST, _DOUBLE, _SINGLE]
    if not _fits_single(rows):
        return [_DOUBLE, _DOUBLE_CAST]
    return [_SINGLE, _DOUBLE, _DOUBLE_CAST]


def _fits_single(rows: Arrays) -> bool:
    """Whether float32 holds every whole number among the values, and none overflows."""
    for array in rows.values():
        if array.dtype.kind == "O":
            continue
        values = array.astype(np.float64)
        large = np.abs(values[np.isfinite(values)])
        large = large[large > _LARGEST_EXACT]
        if large.size and (large.max() > np.finfo(np.float32).max or (large % 1 == 0).any()):
            return False
    return True


def _equal(parity: Parity, attempt: Attempt) -> Conversion:
    return Conversion(
        Format.ONNX,
        "equal",
        f"proven equal on {parity.rows} rows, converted in {attempt}",
        parity.rows,
        0,
        parity.max_difference,
        TOLERANCE,
    )


def _failed(failures: list[tuple[Attempt, Parity | str]]) -> Conversion:
    reason = "; ".join(
        f"{attempt}: {each if isinstance(each, str) else each.complaint}"
        for attempt, each in failures
    )
    unequal = [each for _, each in failures if isinstance(each, Parity)]
    if not unequal:
        return Conversion(Format.ONNX, "unsupported", reason)
    best = min(unequal, key=lambda each: (each.labels_differing, each.max_difference))
    largest = best.max_difference if np.isfinite(best.max_difference) else float(np.finfo("d").max)
    return Conversion(
        Format.ONNX, "unequal", reason, best.rows, best.labels_differing, largest, TOLERANCE
    )


def _first_line(error: Exception) -> str:
    message = error.message if isinstance(error, ModelyardError) else str(error)
    return f"{type(error).__name__}: {' '.join(message.split()):.200}"
