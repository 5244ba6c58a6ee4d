"""An allowance: all the limits that hold for one principal's calls to one model."""

from collections.abc import Callable, Sequence
from typing import Final, Protocol

from modelyard.core.call import Call, Outcome
from modelyard.core.limits import LimitKind
from modelyard.core.usage import Unit
from modelyard.gateway.limits.lines import Line
from modelyard.gateway.limits.pockets import Pocket
from modelyard.gateway.permits import Allowance

Again = Callable[[Call], None]
_OK: Final = Outcome.OK


class Desk(Protocol):
    """Where an allowance asks that has too little at hand."""

    def ask(self, allowance: "LimitAllowance", call: Call, again: Again) -> bool:
        """As `Allowance.reserve`, by way of the till, and of the registry where that must be."""
        ...


class _Ones(list[tuple[Line, Pocket, int]]):
    """What every call of one row has set aside, until a pocket is another: one from each."""

    def __init__(self, lines: Sequence[Line]) -> None:
        super().__init__((line, line.pocket, 1) for line in lines if line.is_settled)
        self.pockets = tuple(pocket for _, pocket, _ in self)


class LimitAllowance:
    """A call passes under all its limits, or takes from none."""

    __slots__ = ("_desk", "_ones", "_pockets", "_takes_one", "lines")

    def __init__(self, lines: Sequence[Line], desk: Desk) -> None:
        self.lines: Final = tuple(lines)
        self._desk: Final = desk
        self._takes_one = all(line.takes_one for line in lines)
        self.turn()

    def turn(self) -> None:
        """Some lines have other pockets now."""
        self._pockets = tuple(line.pocket for line in self.lines)
        self._ones = _Ones(self.lines)

    def reserve(self, call: Call, again: Again) -> bool:
        """Set aside what the call may cost; see `Allowance`."""
        if call.rows == 1 and self._takes_one:
            started_ns = call.started_ns
            for pocket in self._pockets:
                if pocket.left < 1 or started_ns >= pocket.until_ns:
                    return self._desk.ask(self, call, again)
            for pocket in self._pockets:
                pocket.left -= 1
            call.reserved = self._ones
            return True
        return self._reserve(call, again)

    def _reserve(self, call: Call, again: Again) -> bool:
        """The same, where each limit has its own amount."""
        taken = []
        for line in self.lines:
            pocket = line.pocket
            amount = line.before(call)
            if pocket.left < amount or call.started_ns >= pocket.until_ns:
                return self._desk.ask(self, call, again)
            taken.append((line, pocket, amount))
        for _, pocket, amount in taken:
            pocket.left -= amount
        call.reserved = taken
        return True

    def settle(self, call: Call) -> None:
        """Charge what it has cost; one that still waited has nothing set aside."""
        taken, call.reserved = call.reserved, None
        if type(taken) is _Ones and call.outcome is _OK:
            for pocket in taken.pockets:
                pocket.spend(1)
            return
        for line, pocket, amount in taken or ():
            line.settle(call, amount, pocket)


class RequestRateAllowance(LimitAllowance):
    """A single rate of requests: by far the most usual, and one comparison."""

    __slots__ = ("_pocket",)

    def __init__(self, lines: Sequence[Line], desk: Desk) -> None:
        super().__init__(lines, desk)
        self._pocket: Final = lines[0].pocket

    def reserve(self, call: Call, again: Again) -> bool:
        """Take one, which is never given back."""
        pocket = self._pocket
        if pocket.left > 0:
            pocket.left -= 1
            return True
        return self._desk.ask(self, call, again)

    def settle(self, call: Call) -> None:
        """Nothing: what was let in has taken its one."""


def make_allowance(lines: Sequence[Line], desk: Desk) -> Allowance:
    """The allowance of some lines; not of none."""
    limit = lines[0].pocket.limit
    if len(lines) == 1 and (limit.kind, limit.unit) == (LimitKind.RATE, Unit.REQUEST):
        return RequestRateAllowance(lines, desk)
    return LimitAllowance(lines, desk)
