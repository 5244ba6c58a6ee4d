"""One batch: joins the calls' arrays, runs them, and takes the answer apart again."""

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Final, cast

import numpy as np

from modelyard.core.call import Call
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Internal, ModelyardError
from modelyard.core.outputs import BatchOutputs, Part
from modelyard.core.ports import Runtime
from modelyard.core.signature import TensorSpec

_log = logging.getLogger(__name__)

_SMALL_BYTES: Final = 256 * 1024

_FEW: Final = 4
"""Below so many rows, writing each answer alone is quicker than cutting apart what is written."""

Result = Mapping[str, Array] | ModelyardError


def run_batch(runtime: Runtime, calls: Sequence[Call]) -> list[Result]:
    """One result a call, in order. Never raises: a failure is the result of the calls at fault.

    A batch that fails is halved until only the guilty calls fail; the innocent cost at most
    log2(n) further runs.
    """
    try:
        return _run(runtime, calls)
    except BaseException as error:  # noqa: BLE001 - native code panics outside Exception
        if len(calls) == 1:
            return [_as_error(error, calls[0])]
    # Outside the handler, so that the halves' errors do not drag this one along.
    middle = len(calls) // 2
    return run_batch(runtime, calls[:middle]) + run_batch(runtime, calls[middle:])


def _run(runtime: Runtime, calls: Sequence[Call]) -> list[Result]:
    if len(calls) == 1:
        return [_checked(runtime, runtime.run(calls[0].inputs), calls[0].rows)]
    rows = sum(call.rows for call in calls)
    return _split(_checked(runtime, runtime.run(_join(runtime, calls, rows)), rows), calls, rows)


def _join(runtime: Runtime, calls: Sequence[Call], rows: int) -> dict[str, Array]:
    joined: dict[str, Array] = {}
    for spec in runtime.signature.inputs:
        name = spec.name
        joined[name] = _joined([call.inputs[name] for call in calls], rows)
    return joined


def _joined(arrays: list[Array], rows: int) -> Array:
    """The arrays one after the other, maybe read-only.

    To join small ones as bytes takes a quarter of the time that `np.concatenate` does, but holds
    the interpreter.
    """
    first = arrays[0]
    if len(arrays) * first.nbytes > _SMALL_BYTES or first.dtype.kind == "O":
        return np.concatenate(arrays)
    try:
        joined = b"".join(cast(list[bytes], arrays))
        return np.frombuffer(joined, first.dtype).reshape(rows, *first.shape[1:])
    except (TypeError, ValueError):
        # One that does not lie in one piece gives no bytes.
        return np.concatenate(arrays)


def _checked(runtime: Runtime, outputs: Mapping[str, Array], rows: int) -> Mapping[str, Array]:
    """The signature's outputs, in its datatypes: their raw bytes are sent under its names."""
    signature = runtime.signature
    checked: dict[str, Array] = {}
    for spec in signature.outputs:
        array = outputs[spec.name]
        if array.dtype != spec.datatype.dtype:
            array = _retyped(spec, array)
        if signature.batched and len(array) != rows:
            raise RuntimeError(f"output '{spec.name}' has {len(array)} rows for {rows} of input")
        checked[spec.name] = array
    return checked


def _retyped(spec: TensorSpec, array: Array) -> Array:
    if Datatype.of(array.dtype) is Datatype.BYTES:
        fits = spec.datatype is Datatype.BYTES
    else:
        fits = (spec.datatype.is_float and array.dtype.kind == "f") or (
            spec.datatype is not Datatype.BYTES
            and np.can_cast(array.dtype, spec.datatype.dtype, "safe")
        )
    if not fits:
        raise RuntimeError(f"output '{spec.name}' is {array.dtype}, not {spec.datatype}")
    with np.errstate(over="ignore"):
        return array.astype(spec.datatype.dtype)


def _split(outputs: Mapping[str, Array], calls: Sequence[Call], rows: int) -> list[Result]:
    is_row_each = rows == len(calls) >= _FEW and all(call.rows == 1 for call in calls)
    batch = BatchOutputs(outputs, is_row_each=is_row_each)
    if is_row_each:
        return [Part(batch, row, row + 1) for row in range(rows)]
    parts: list[Result] = []
    start = 0
    for call in calls:
        end = start + call.rows
        parts.append(Part(batch, start, end))
        start = end
    return parts


def _as_error(error: BaseException, call: Call) -> ModelyardError:
    if isinstance(error, ModelyardError):
        return error
    _failures.report(error, call)
    return Internal("model_failed", f"the model failed on this request; see the log for {call.id}")


class _Failures:
    """Logs failures with their traceback, but no more than one a second: a model that fails on
    every request must not fill the disk."""

    def __init__(self) -> None:
        self._logged_at = float("-inf")
        self._unlogged = 0

    def report(self, error: BaseException, call: Call) -> None:
        now = time.monotonic()
        if now - self._logged_at < 1.0:
            self._unlogged += 1
            return
        more, self._unlogged, self._logged_at = self._unlogged, 0, now
        _log.error(
            "call %s to %s:%d failed (and %d before it, not logged)",
            call.id,
            call.served.model,
            call.served.version,
            more,
            exc_info=error,
        )


_failures = _Failures()
