"""The gate of a server with keys: limits before a call, its usage after it."""

from collections.abc import Callable
from typing import Final, Protocol

from modelyard.core.call import Call
from modelyard.core.errors import Unauthenticated
from modelyard.gateway.permits import KeyedPermit


class Meter(Protocol):
    """Records usage. Microseconds, no await."""

    def check(self) -> None:
        """Raise `Unavailable` where the next call could not be recorded."""
        ...

    def record(self, call: Call) -> None:
        """Write down how a call with a permit ended, whatever way; once for each; never raises."""
        ...


class KeyedGate:
    """Admits calls that have a permit, within its allowance, and records how they ended.

    With `is_strict` it admits none while the meter could not record it.
    """

    def __init__(self, meter: Meter, *, is_strict: bool = False) -> None:
        self._meter: Final = meter
        self._is_strict: Final = is_strict

    def admit(self, call: Call, again: Callable[[Call], None]) -> bool:
        """Let the call in, or raise; False where it waits for its allowance."""
        permit = call.permit
        if type(permit) is not KeyedPermit:
            # A protocol forgot to ask who is calling: nobody is let in by an oversight.
            raise Unauthenticated("no_permit", "this call came without a key")
        if self._is_strict:
            self._meter.check()
        allowance = permit.allowance
        return allowance is None or allowance.reserve(call, again)

    def settle(self, call: Call) -> None:
        """Record how it ended, and charge what it cost, or give back what was set aside."""
        permit = call.permit
        if type(permit) is KeyedPermit:
            if permit.allowance is not None:
                permit.allowance.settle(call)
            if permit.capture is not None:
                permit.capture.offer(call)
        self._meter.record(call)

    def refuse(self, call: Call) -> None:
        """Record a call that was refused; nothing was set aside for it."""
        if type(call.permit) is KeyedPermit:
            self._meter.record(call)
