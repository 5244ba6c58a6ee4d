"""Allowances: a worker's view of all limits, and the room where calls wait for some."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from weakref import WeakValueDictionary

from modelyard.core.call import Call
from modelyard.core.errors import ModelyardError, Unavailable
from modelyard.core.identity import Principal
from modelyard.core.leases import LeaseStore
from modelyard.core.limits import MONEY, Limit
from modelyard.core.rules import Rules
from modelyard.core.usage import Tariff, tariff_of
from modelyard.gateway.limits.allowance import Again, LimitAllowance, make_allowance
from modelyard.gateway.limits.leasing import Leasing
from modelyard.gateway.limits.lines import Line, make_line, make_pocket
from modelyard.gateway.limits.pockets import Clock, Pocket
from modelyard.gateway.limits.quotas import QuotaPocket
from modelyard.gateway.limits.till import Till
from modelyard.gateway.permits import Allowance

_log = logging.getLogger(__name__)

FOLDER: Final = "run/limits"
"""Where in a home its workers count together."""
_TICK_S: Final = 0.02
"""How long a worker keeps what it does not use, and a waiting call waits before it looks again."""
_ROUND_S: Final = 0.25
_MOST_WAITING: Final = 1024
_LONGEST_WAIT_NS: Final = 2_000_000_000


@dataclass(slots=True, eq=False)
class _Waiting:
    """A call that waits for its allowance."""

    allowance: LimitAllowance
    call: Call
    again: Again
    until_ns: int


class Allowances:
    """Makes allowances, and gives them what they ask for. Used on the loop's thread only.

    Everything is counted in `folder`, together with the other workers of the home.
    """

    def __init__(self, folder: Path, store: LeaseStore, *, clock: Clock | None = None) -> None:
        self._clock = clock or Clock()
        self._till = Till(folder)
        self._leasing = Leasing(self._till, store, self._clock, self._serve)
        self._rules = Rules()
        self._limits: dict[str, Limit] = {}
        self._pockets: WeakValueDictionary[str, Pocket] = WeakValueDictionary()
        self._holding: set[Pocket] = set()
        self._waiting: list[_Waiting] = []
        self._tick: asyncio.TimerHandle | None = None
        self._rounds: asyncio.Task[None] | None = None
        self._is_closed = False

    async def start(self) -> None:
        """Begin to look after leases, when the first rules are followed."""
        if self._limits:
            await self._leasing.beat()
        self._rounds = asyncio.get_running_loop().create_task(self._go_round())

    async def stop(self) -> None:
        """Give back what is at hand; the home's last worker gives back its leases."""
        self._is_closed = True
        if self._rounds is not None:
            self._rounds.cancel()
        for waiting in self._waiting[:]:
            waiting.call.fail(_closing())
        with self._till:
            for pocket in self._holding:
                pocket.put_back()
            is_last = self._till.depart()
        if is_last:
            await self._leasing.close()
        self._leasing.stop()

    def follow(self, rules: Rules) -> None:
        """Go by these limits and tariffs from now on; counts go on by each limit's id."""
        before, self._rules = self._limits, rules
        self._limits = {limit.id: limit for limit in rules.limits}
        self._leasing.limits = self._limits
        for pocket in list(self._pockets.values()):
            limit = self._limits.get(pocket.limit.id)
            if limit is None or limit == before.get(limit.id):
                continue
            pocket.limit = limit
            with self._till:
                pocket.bind()
                pocket.changed()
            if isinstance(pocket, QuotaPocket):
                # What the registry has leased may be more than there is now, or there is more.
                self._leasing.want(pocket)

    def of(self, principal: Principal, model: str) -> Allowance | None:
        """The limits that hold for somebody's calls to a model; None where none does."""
        tariff = tariff_of(model, self._rules.tariffs)
        lines = [
            make_line(self._pocket(limit, _words(limit, principal, model, tariff)), tariff)
            for limit in self._limits.values()
            if limit.fits(principal, model)
        ]
        return make_allowance(lines, self) if lines else None

    def ask(self, allowance: LimitAllowance, call: Call, again: Again) -> bool:
        """Set aside what the call may cost, by way of the till; False where it has to wait."""
        if self._is_closed:
            raise _closing()
        now_ns = self._clock.monotonic_ns()
        if self._attempt(allowance, call, now_ns):
            return True
        if len(self._waiting) >= _MOST_WAITING:
            raise Unavailable(
                "quota_unavailable",
                "too many calls wait for a limit's allowance; try again",
                retry_after_s=1.0,
            )
        self._waiting.append(_Waiting(allowance, call, again, now_ns + _LONGEST_WAIT_NS))
        self._plan_tick()
        return False

    def _attempt(self, allowance: LimitAllowance, call: Call, now_ns: int) -> bool:
        """Take from all pockets, or from none; raises what refuses the call for good."""
        lines = allowance.lines
        amounts = [line.before(call) for line in lines]
        short: list[tuple[Pocket, int, int]] = []
        with self._till:
            may_run = True
            for line, amount in zip(lines, amounts, strict=True):
                if now_ns >= line.pocket.until_ns:
                    self._turn(line)
                    allowance.turn()
                pocket = line.pocket
                if pocket.left >= amount:
                    continue
                pocket.bind()
                lacking = amount - pocket.left
                free = pocket.free()
                if free >= lacking:
                    short.append((pocket, lacking, free))
                    continue
                refusal = pocket.lacks(lacking)
                if refusal is not None:
                    raise refusal
                may_run = False
                if isinstance(pocket, QuotaPocket) and pocket.needed:
                    self._leasing.want(pocket)
            if not may_run:
                return False
            for pocket, lacking, free in short:
                pocket.take(lacking, free)
        taken = []
        for line, amount in zip(lines, amounts, strict=True):
            line.pocket.left -= amount
            taken.append((line, line.pocket, amount))
        call.reserved = taken
        return True

    def _turn(self, line: Line) -> None:
        """A new period: what comes now is counted in it."""
        line.pocket = self._pocket(line.pocket.limit, line.pocket.words)

    def _pocket(self, limit: Limit, words: str) -> Pocket:
        made = make_pocket(self._till, limit, words, self._clock)
        pocket = self._pockets.get(made.key)
        if pocket is not None:
            pocket.until_ns = made.until_ns
            return pocket
        self._pockets[made.key] = made
        made.watch = self._watch
        return made

    def _watch(self, pocket: Pocket) -> None:
        self._holding.add(pocket)
        self._plan_tick()

    def _plan_tick(self) -> None:
        if self._tick is None and not self._is_closed:
            self._tick = asyncio.get_running_loop().call_later(_TICK_S, self._on_tick)

    def _on_tick(self) -> None:
        """Give back what is not used, and let waiting calls look again."""
        self._tick = None
        try:
            with self._till:
                for pocket in list(self._holding):
                    if not pocket.age():
                        pocket.is_watched = False
                        self._holding.discard(pocket)
        except ModelyardError as error:
            _log.warning("%s", error.message)
        if self._waiting:
            self._serve()
        if self._holding or self._waiting:
            self._plan_tick()

    def _serve(self) -> None:
        """Let waiting calls try again, in their order."""
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            for line in each.allowance.lines:
                if isinstance(line.pocket, QuotaPocket):
                    line.pocket.needed = 0
        waiting = [each for each in waiting if self._is_still_waiting(each)]
        self._waiting = waiting + self._waiting

    def _is_still_waiting(self, each: _Waiting) -> bool:
        call = each.call
        if call.outcome is not None:
            return False
        now_ns = self._clock.monotonic_ns()
        try:
            may_run = self._attempt(each.allowance, call, now_ns)
        except ModelyardError as error:
            call.fail(error)
            return False
        if may_run:
            each.again(call)
            return False
        if now_ns >= each.until_ns:
            call.fail(_too_late())
            return False
        return True

    async def _go_round(self) -> None:
        """Do what is to be done from time to time, for as long as this worker works."""
        while True:
            await asyncio.sleep(_ROUND_S)
            try:
                for pocket in list(self._pockets.values()):
                    if isinstance(pocket, QuotaPocket):
                        pocket.look_at_clock()
                await self._leasing.round()
            except ModelyardError as error:
                _log.warning("%s", error.message)


def _words(limit: Limit, principal: Principal, model: str, tariff: Tariff) -> str:
    """A subject's name: money of each currency is counted apart."""
    words = limit.subject(principal, model)
    return f"{words}\x1f{tariff.currency}" if limit.unit == MONEY else words


def _closing() -> Unavailable:
    return Unavailable("closing", "the server is being closed", retry_after_s=1.0)


def _too_late() -> Unavailable:
    return Unavailable(
        "quota_unavailable",
        "in time nobody could say whether anything is left of a quota; try again",
        retry_after_s=1.0,
    )
