"""The open gate: lets everybody in, and counts."""

from collections import Counter
from collections.abc import Callable
from typing import Final

from modelyard.core.call import Call, Outcome
from modelyard.core.ports import Gate
from modelyard.gateway.permits import KeyedPermit

_OK: Final = Outcome.OK


class OpenGate:
    """A gate without limits and meters, for a server that only this machine can reach.

    The calls of whoever gives a key all the same are `keyed`'s business.
    """

    def __init__(self, keyed: Gate | None = None) -> None:
        self._keyed = keyed
        self.admitted = 0
        self._well = 0
        self._otherwise: Counter[Outcome] = Counter()

    def admit(self, call: Call, again: Callable[[Call], None]) -> bool:
        """Let the call in."""
        self.admitted += 1
        if self._keyed is not None and type(call.permit) is KeyedPermit:
            return self._keyed.admit(call, again)
        return True

    def settle(self, call: Call) -> None:
        """Count how it ended."""
        if self._keyed is not None and type(call.permit) is KeyedPermit:
            self._keyed.settle(call)
        if call.outcome is _OK:
            # By far the most: a plain number, where a counter would hash its key.
            self._well += 1
        elif call.outcome is not None:
            self._otherwise[call.outcome] += 1

    def refuse(self, call: Call) -> None:
        """A call that was never admitted is no business of an open gate."""
        if self._keyed is not None:
            self._keyed.refuse(call)

    @property
    def settled(self) -> Counter[Outcome]:
        """How many calls ended how."""
        return self._otherwise + Counter({Outcome.OK: self._well})
