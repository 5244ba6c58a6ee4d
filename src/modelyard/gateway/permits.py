"""Permits: what the gate knows of a caller and a model together, kept from call to call."""

from collections.abc import Callable
from typing import Protocol

from modelyard.core.call import Call
from modelyard.core.identity import Principal


class Allowance(Protocol):
    """The limits that hold for one principal's calls to one model. Microseconds, no await."""

    def reserve(self, call: Call, again: Callable[[Call], None]) -> bool:
        """Set aside what the call may cost, under every limit or under none.

        False where it must be asked for: the call is kept, and goes to `again` on the loop, or ends
        with `Exhausted`. Raises `Exhausted`, with `headroom`, or `Unavailable`.
        """
        ...

    def settle(self, call: Call) -> None:
        """Charge an ended call that was let in or kept: its true cost, or nothing."""
        ...


class Capture(Protocol):
    """Keeps a sample of the calls to one model. Microseconds, no await."""

    def offer(self, call: Call) -> None:
        """Keep the ended call, or not; never raises."""
        ...


class KeyedPermit:
    """Leave to call one model. `subjects` belongs to the meter: a number for each version.

    `capture` gets the calls where a policy has some of them kept.
    """

    __slots__ = ("allowance", "capture", "key", "model", "principal", "subjects", "tenant")

    def __init__(
        self,
        principal: Principal,
        model: str,
        allowance: Allowance | None,
        capture: Capture | None = None,
    ) -> None:
        self.principal = principal
        self.tenant = principal.tenant
        self.key = principal.key
        self.model = model
        self.allowance = allowance
        self.capture = capture
        self.subjects: dict[int, int] = {}
