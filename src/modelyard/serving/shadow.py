"""A mirror: copies calls to a shadow version, and compares its answers with those that were given.

Nothing here can delay, fail or meter a caller. A copy is made after the caller has its answer, of
calls that were answered well; copies wait outside the shadow's own queue, few at a time are let
into it, and whatever finds no room, or a loop that has better things to do, is dropped and counted.
"""

import asyncio
import datetime
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from modelyard.core.call import Call
from modelyard.core.datatypes import Array
from modelyard.core.errors import Exhausted, ModelyardError
from modelyard.core.ports import Arrays
from modelyard.core.route import Shadow
from modelyard.core.signature import Signature
from modelyard.serving.agreement import agrees, first_difference, labels_agree
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.route_report import KEPT, Disagreement, ShadowCounts
from modelyard.serving.split import Spread

_log = logging.getLogger(__name__)

_PAUSE_S: Final = 0.005
"""Between two groups of copies, in which the loop belongs to callers alone."""
_GROUP: Final = 16
_MOST_WAITING: Final = 64
_MOST_ROWS: Final = 4096
"""Of all copies that wait or run: bounds the memory that they hold."""
_BUSY: Final = 0.75
"""A loop that was on a processor for more than this share of the last pause has none to spare."""
_LATE_NS: Final = 3_000_000
"""Nor has one that came so late: others were at work, of this process or of the machine."""
_REST_S: Final = 0.05
_PATIENCE_NS: Final = 30_000_000_000
_LOW: Final = -1

Reply = Callable[[Call], None]


class Mirror:
    """Copies a share of a model's calls to one version. Used on the event loop's thread only."""

    def __init__(self, endpoint: Endpoint, shadow: Shadow) -> None:
        self.endpoint = endpoint
        self.percent = shadow.percent
        self.counts = ShadowCounts()
        self._spread = Spread(shadow.percent)
        self._compared = self._agreed = self._labels_agreed = 0
        self._failed = self._dropped = 0
        self._disagreements: deque[Disagreement] = deque(maxlen=KEPT)
        self._waiting: deque[Call] = deque()
        self._rows = 0
        self._open = 0
        self._pump_is_due = False
        self._rests = False
        self._unsampled = 0
        self._pause_ns = self._planned_ns = self._worked_ns = 0

    def offer(self, call: Call) -> None:
        """Perhaps copy a call, once its caller has been answered. Costs the caller nothing else."""
        if self._rests:
            self._unsampled += 1
        elif self._spread.takes():
            call.reply = partial(self._answered, call.reply)

    def replace(self, endpoint: Endpoint, shadow: Shadow) -> None:
        """Go on, with the counts so far, on another endpoint of the same version."""
        self.endpoint = endpoint
        if shadow.percent != self.percent:
            self._dropped += round(self._unsampled * self.percent / 100.0)
            self._unsampled = 0
            self.percent = shadow.percent
            self._spread = Spread(shadow.percent)

    def report(self) -> ShadowCounts:
        """What became of the copies."""
        return ShadowCounts(
            compared=self._compared,
            agreed=self._agreed,
            labels_agreed=self._labels_agreed,
            differed=self._compared - self._agreed,
            failed=self._failed,
            dropped=self._dropped + round(self._unsampled * self.percent / 100.0),
            disagreements=tuple(self._disagreements),
        )

    def _answered(self, reply: Reply, call: Call) -> None:
        reply(call)
        if call.outputs is None:
            return
        if len(self._waiting) >= _MOST_WAITING or self._rows + call.rows > _MOST_ROWS:
            self._dropped += 1
            return
        self._rows += call.rows
        self._waiting.append(call)
        self._plan()

    def _plan(self, pause_s: float = _PAUSE_S) -> None:
        if not self._pump_is_due:
            self._pump_is_due = True
            self._pause_ns = round(pause_s * 1e9)
            self._planned_ns, self._worked_ns = time.monotonic_ns(), time.thread_time_ns()
            asyncio.get_running_loop().call_later(pause_s, self._pump)

    def _pump(self) -> None:
        """Let the next few copies run; where the loop is busy, drop them and rest."""
        self._pump_is_due = False
        self._rests = self._is_busy()
        if self._rests:
            while self._waiting:
                self._drop(self._waiting.popleft())
            self._plan(_REST_S)
            return
        # One group at a time: a slow shadow holds no more of the machine than that.
        if not self._open:
            for _ in range(min(_GROUP, len(self._waiting))):
                self._copy(self._waiting.popleft())
        if self._waiting:
            self._plan()

    def _is_busy(self) -> bool:
        """Whether the loop worked nearly all the time, or was late because it had to wait."""
        passed_ns = time.monotonic_ns() - self._planned_ns
        worked_ns = time.thread_time_ns() - self._worked_ns
        return passed_ns - self._pause_ns > _LATE_NS or worked_ns > _BUSY * passed_ns

    def _drop(self, call: Call) -> None:
        self._rows -= call.rows
        self._dropped += 1

    def _copy(self, call: Call) -> None:
        try:
            copy = Call(
                self.endpoint,
                _inputs_for(self.endpoint.signature, call.inputs),
                call.rows,
                partial(self._take, call),
                time.monotonic_ns() + _PATIENCE_NS,
                _LOW,
                call.parameters,
            )
            copy.permit = call.permit
            copy.is_shadow = True
            self.endpoint.accept(copy)
        except ModelyardError as error:
            self._rows -= call.rows
            if isinstance(error, Exhausted):
                self._dropped += 1
            else:
                self._failed += 1
        except Exception:  # noqa: BLE001 - no caller may feel it, whatever it is
            _log.exception("a call could not be copied to the shadow")
            self._rows -= call.rows
            self._failed += 1
        else:
            self._open += 1

    def _take(self, call: Call, copy: Call) -> None:
        """The copy has ended: compare."""
        self._open -= 1
        self._rows -= call.rows
        if copy.outputs is None or call.outputs is None:
            self._failed += 1
            return
        self._compared += 1
        difference = _difference(call.outputs, copy.outputs)
        if difference is None:
            self._agreed += 1
            self._labels_agreed += 1
            return
        self._labels_agreed += labels_agree(call.outputs, copy.outputs)
        output, answered, shadow = difference
        self._disagreements.append(
            Disagreement(
                at=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
                call=call.id,
                output=output,
                answered=answered,
                shadow=shadow,
            )
        )


def _inputs_for(signature: Signature, inputs: Arrays) -> Mapping[str, Array]:
    """The same inputs, in the datatypes that the shadow takes; raises where it takes others."""
    cast = {
        spec.name: inputs[spec.name].astype(spec.datatype.dtype, copy=False)
        for spec in signature.inputs
        if spec.name in inputs
    }
    signature.check(cast)
    return cast


def _difference(
    answered: Mapping[str, Array], shadow: Mapping[str, Array]
) -> tuple[str, str, str] | None:
    for name, wanted in answered.items():
        got = shadow.get(name)
        if agrees(wanted, got):
            continue
        if got is None:
            return name, "an output", "no such output"
        if got.shape != wanted.shape:
            return name, f"shape {list(wanted.shape)}", f"shape {list(got.shape)}"
        place = first_difference(wanted, got)
        where = f"{name}{list(place)}"
        return where, f"{wanted[place]!s:.80}", f"{got[place]!s:.80}"
    return None
