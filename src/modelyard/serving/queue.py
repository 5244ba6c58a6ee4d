"""The queue: calls that wait, first come first served within each of three classes."""

import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final

from modelyard.core.call import Call
from modelyard.core.datatypes import Datatype
from modelyard.core.ports import Arrays
from modelyard.core.signature import FREE, Signature

_NO_INPUTS: Arrays = {}
_MOST_ENDED: Final = 64
"""How many calls may have ended in the queue before it is swept."""
_OLDEST_EVERY: Final = 4
"""Of the batches that had several classes to choose from, each fourth begins with the call that has
waited longest, whatever its class: nobody starves."""
_STRING_BYTES: Final = 50
"""What a Python string takes beside its characters."""


class Batch:
    """Calls that leave the queue together: at least one, unless none of them wanted an answer.

    `late` are calls that could not be answered in time any more; `born_ns` adds up when the others
    began.
    """

    __slots__ = ("born_ns", "calls", "late", "rows")

    def __init__(self, calls: list[Call], rows: int, born_ns: int, late: Sequence[Call]) -> None:
        self.calls = calls
        self.rows = rows
        self.born_ns = born_ns
        self.late = late


class CallQueue:
    """Calls of one endpoint that wait. Used on the event loop's thread only.

    `rows` is what waits; a call without rows counts as one, so that a bound holds for it too.
    `bytes` is what the waiting inputs hold, counted only where it `weighs` them because it does not
    follow from the rows.
    """

    __slots__ = (
        "_apart",
        "_batched",
        "_choices",
        "_ended",
        "_high",
        "_high_rows",
        "_low",
        "_low_rows",
        "_names",
        "_normal",
        "_ragged",
        "bytes",
        "row_bytes",
        "rows",
        "weighs",
    )

    def __init__(self, signature: Signature) -> None:
        self._names = [spec.name for spec in signature.inputs]
        self._batched = signature.batched
        self._ragged = any(FREE in spec.shape[1:] for spec in signature.inputs)
        self.row_bytes = _row_bytes(signature)
        self.weighs = self.row_bytes is None
        self._high: deque[Call] = deque()
        self._normal: deque[Call] = deque()
        self._low: deque[Call] = deque()
        self._apart = self._high_rows = self._low_rows = 0
        self._choices = 0
        self._ended = 0
        self.rows = 0
        self.bytes = 0

    def push(self, call: Call) -> None:
        """Let the call wait behind the others of its class."""
        call.is_waiting = True
        self.rows += call.rows or 1
        if self.weighs:
            self.bytes += size_bytes(call)
        if call.priority:
            self._apart += 1
            self._count_apart(call, call.rows or 1)
            (self._high if call.priority > 0 else self._low).append(call)
        else:
            self._normal.append(call)

    def forget(self, call: Call) -> None:
        """Give the place of a call that ended while it waited to others at once."""
        if not call.is_waiting:
            return
        self._leave(call)
        call.inputs = _NO_INPUTS
        self._ended += 1
        if self._ended > _MOST_ENDED and self._ended * 2 > self._length():
            self._sweep()

    def clear(self) -> None:
        """Drop what is left, all of which has ended."""
        for line in (self._high, self._normal, self._low):
            line.clear()
        self._apart = self._ended = 0

    def __iter__(self) -> Iterator[Call]:
        """Every call that waits, in no order across classes."""
        for line in (self._high, self._normal, self._low):
            for call in line:
                if call.is_waiting:
                    yield call

    def rows_before(self, priority: int) -> int:
        """The rows that a call of this priority would mostly find before it."""
        if priority > 0:
            return self._high_rows
        return self.rows - self._low_rows if priority == 0 else self.rows

    def first(self) -> Call | None:
        """The call that the next batch begins with; None where nobody waits."""
        while self.rows:
            line = self._first_line() if self._apart else self._normal
            call = line[0]
            if call.is_waiting:
                return call
            line.popleft()
            self._ended -= 1
            self._apart -= call.priority != 0
        return None

    def take(self, max_rows: int, least_ns: int = 0) -> Batch:
        """The next batch: calls that still want an answer and fit together.

        Of the first call all rows, however many. A call whose deadline comes sooner than
        `least_ns` from now is late; it is out of the queue, and the caller has to end it.
        """
        calls: list[Call] = []
        late: Sequence[Call] = ()
        rows = places = born_ns = 0
        shape: object = None
        if not self._batched:
            max_rows = -1
        for line in self._lines() if self._apart else (self._normal,):
            while line:
                call = line.popleft()
                if not call.is_waiting:
                    self._ended -= 1
                    if call.priority:
                        self._apart -= 1
                    continue
                if call.deadline_ns is not None and _is_late(call.deadline_ns, least_ns):
                    self._leave(call)
                    if call.priority:
                        self._apart -= 1
                    late = (*late, call)
                    continue
                if calls:
                    if rows + call.rows > max_rows or (
                        shape is not None and self._row_shape(call) != shape
                    ):
                        line.appendleft(call)
                        break
                elif self._ragged:
                    shape = self._row_shape(call)
                call.is_waiting = False
                call.has_run = True
                calls.append(call)
                rows += call.rows
                places += call.rows or 1
                born_ns += call.started_ns
                if call.priority:
                    self._apart -= 1
                    self._count_apart(call, -(call.rows or 1))
        self.rows -= places
        if self.weighs:
            self.bytes -= sum(map(size_bytes, calls))
        return Batch(calls, rows, born_ns, late)

    def _lines(self) -> Sequence[deque[Call]]:
        first = self._first_line()
        self._choices += 1
        return first, self._high, self._normal, self._low

    def _leave(self, call: Call) -> None:
        call.is_waiting = False
        self.rows -= call.rows or 1
        if call.priority:
            self._count_apart(call, -(call.rows or 1))
        if self.weighs:
            self.bytes -= size_bytes(call)

    def _count_apart(self, call: Call, rows: int) -> None:
        if call.priority > 0:
            self._high_rows += rows
        else:
            self._low_rows += rows

    def _first_line(self) -> deque[Call]:
        lines = [line for line in (self._high, self._normal, self._low) if line]
        if len(lines) > 1 and self._choices % _OLDEST_EVERY == _OLDEST_EVERY - 1:
            return min(lines, key=lambda line: line[0].number)
        return lines[0]

    def _length(self) -> int:
        return len(self._normal) + self._apart

    def _sweep(self) -> None:
        for line in (self._high, self._normal, self._low):
            waiting = [call for call in line if call.is_waiting]
            line.clear()
            line.extend(waiting)
        self._apart = len(self._high) + len(self._low)
        self._ended = 0

    def _row_shape(self, call: Call) -> tuple[tuple[int, ...], ...]:
        inputs = call.inputs
        return tuple([inputs[name].shape[1:] for name in self._names])


def _is_late(deadline_ns: int, least_ns: int) -> bool:
    return deadline_ns < time.monotonic_ns() + least_ns


def size_bytes(call: Call) -> int:
    """What a call's inputs hold in memory."""
    return sum(
        sum(map(len, array.flat)) + _STRING_BYTES * array.size
        if array.dtype.kind == "O"
        else array.nbytes
        for array in call.inputs.values()
    )


def _row_bytes(signature: Signature) -> int | None:
    """The bytes of a row's inputs; None where rows differ."""
    total = 0
    for spec in signature.inputs:
        axes = spec.shape[1:] if signature.batched else spec.shape
        if FREE in axes or spec.datatype is Datatype.BYTES:
            return None
        total += math.prod(axes) * spec.datatype.dtype.itemsize
    return total
