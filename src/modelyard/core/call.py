"""A call: one request on its way through, whatever protocol it came by.

It is admitted, run and settled exactly once, however it ends. The protocol makes it, the exchange
admits it and hands it to an endpoint, and whoever ends it first wins: a later answer, failure or
cancellation of the same call does nothing.
"""

import itertools
import os
import time
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from modelyard.core.errors import Cancelled, Kind, ModelyardError

if TYPE_CHECKING:
    from modelyard.core.datatypes import Array
    from modelyard.core.ports import Permit, Served

PREFIX: Final = os.urandom(6).hex()
"""With what the ids of this process's calls begin."""
_COUNT: Final = itertools.count(1)


class Outcome(StrEnum):
    """How a call ended."""

    OK = "ok"
    REFUSED = "refused"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    CLIENT_GONE = "client_gone"


_OK: Final = Outcome.OK
_OUTCOMES: Final[dict[Kind, Outcome]] = {
    Kind.INVALID: Outcome.REFUSED,
    Kind.UNAUTHENTICATED: Outcome.REFUSED,
    Kind.DENIED: Outcome.REFUSED,
    Kind.NOT_FOUND: Outcome.REFUSED,
    Kind.CONFLICT: Outcome.REFUSED,
    Kind.EXHAUSTED: Outcome.REFUSED,
    Kind.UNAVAILABLE: Outcome.REFUSED,
    Kind.TIMEOUT: Outcome.TIMEOUT,
    Kind.CANCELLED: Outcome.CANCELLED,
    Kind.INTERNAL: Outcome.FAILED,
}


class Timer(Protocol):
    """What ends a call at its deadline, as an event loop makes it."""

    def cancel(self) -> None:
        """Do nothing at the deadline."""
        ...


class Call:
    """One request. Owned by the event loop: every method is called on the loop's thread.

    `served` is the version it is for, `inputs` are checked arrays by name, `rows` their batch
    length, `deadline_ns` a `time.monotonic_ns` moment or None. `priority` is of three classes: high
    (above 0), normal (0) and low (below 0). `reply` is called once, with the call, when it has
    ended: then either `outputs` or `error` is set. `permit` is the leave that its protocol got for
    it, `reserved` what the gate has set aside for it, and belongs to the gate. One that
    `is_shadow` is a copy that nobody waits for: no gate admits or meters it.
    `is_waiting` belongs to whoever queues it, who says by `has_run` that it was taken into a batch.
    """

    __slots__ = (
        "deadline_ns",
        "ended_ns",
        "error",
        "has_run",
        "inputs",
        "is_shadow",
        "is_waiting",
        "number",
        "outcome",
        "outputs",
        "parameters",
        "permit",
        "priority",
        "reply",
        "reserved",
        "rows",
        "served",
        "settle",
        "started_ns",
        "timer",
    )

    def __init__(
        self,
        served: "Served",
        inputs: "Mapping[str, Array]",
        rows: int,
        reply: Callable[["Call"], None],
        deadline_ns: int | None = None,
        priority: int = 0,
        parameters: Mapping[str, Any] | None = None,
    ) -> None:
        self.number = next(_COUNT)
        self.served = served
        self.inputs = inputs
        self.rows = rows
        self.reply = reply
        self.deadline_ns = deadline_ns
        self.priority = priority
        self.parameters = parameters
        self.permit: Permit | None = None
        self.reserved: Any = None
        self.is_shadow = False
        self.is_waiting = False
        self.has_run = False
        self.settle: Callable[[Call], None] | None = None
        self.timer: Timer | None = None
        self.outputs: Mapping[str, Array] | None = None
        self.error: ModelyardError | None = None
        self.outcome: Outcome | None = None
        self.started_ns = time.monotonic_ns()
        self.ended_ns = 0

    @property
    def id(self) -> str:
        """An id that no other call has, in this process or any other; text only when asked for."""
        return f"{PREFIX}-{self.number:x}"

    @property
    def tenant(self) -> str:
        """For whom it runs; "" where nobody asked."""
        return "" if self.permit is None else self.permit.tenant

    def answer(self, outputs: "Mapping[str, Array]") -> None:
        """End the call well."""
        if self.outcome is None:
            self.outputs = outputs
            self._end(_OK)

    def fail(self, error: ModelyardError) -> None:
        """End the call with an error of ours."""
        if self.outcome is None:
            # The traceback's frames hold this call: it would wait for the garbage collector.
            self.error = error.with_traceback(None)
            self._end(_OUTCOMES[error.kind])

    def cancel(self) -> None:
        """End the call because its caller asked for it."""
        if self.outcome is None:
            self.fail(Cancelled("cancelled", "the caller cancelled the call"))

    def abandon(self) -> None:
        """End the call because its caller's connection is gone."""
        if self.outcome is None:
            self.error = Cancelled("client_gone", "the caller went away")
            self._end(Outcome.CLIENT_GONE)

    def _end(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.ended_ns = time.monotonic_ns()
        settle, self.settle = self.settle, None
        if self.timer is not None:
            # It holds this call and its tensors, and the deadline may be an hour away.
            self.timer.cancel()
            self.timer = None
        try:
            # Only an admitted call has a settle; a refused one was never counted.
            if settle is not None:
                settle(self)
        finally:
            self.reply(self)
