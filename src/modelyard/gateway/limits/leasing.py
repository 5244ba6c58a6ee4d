"""Leasing: how a home gets its part of quotas from the registry, says what it spent, gives back.

One worker of a home speaks at a time, by a claim in the till. What is to be given back is taken out
of the till before the registry hears of it, and what is granted is put in after it has said so: so
the till never has more than the registry knows of, wherever a process dies.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from modelyard.core.errors import ModelyardError
from modelyard.core.leases import Ask, Lease, LeaseStore
from modelyard.core.limits import Limit
from modelyard.core.periods import period_at
from modelyard.gateway.limits.pockets import Clock
from modelyard.gateway.limits.quotas import QuotaPocket, row_key
from modelyard.gateway.limits.till import Cell, Head, Till

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_QUEUE_S: Final = 0.005
"""After how long to look again whether nobody speaks any more."""
_PATIENCE_S: Final = 1.0
_DOWN_NS: Final = 1_500_000_000
"""For how long nobody asks a registry that did not answer."""
_ENOUGH_NS: Final = 60_000_000_000
"""A lease is to last so long; one that did not is followed by one of twice the size."""
_SMALLEST_PART: Final = 64
"""A first lease is so small a part of its quota."""
_OWED_NS: Final = 100_000_000
"""For how long to wait for what others give back, before asking again."""
_LAST_WORDS_S: Final = 2.0
_ROUND_NS: Final = 200_000_000
_REPORT_NS: Final = 2_000_000_000
_RENEWAL_NS: Final = 10_000_000_000
_BEAT_NS: Final = 5_000_000_000
_ANY: Final = 1 << 62
"""A quota that takes nothing away: of a limit that is there no more, nothing is granted either."""


@dataclass(frozen=True, slots=True)
class _Standing:
    """Where the lease of a subject is in the till, and what becomes of it."""

    limit: Limit | None
    lease: Lease
    is_over: bool


class Leasing:
    """Speaks to the registry for the pockets of one worker. Used on the loop's thread only.

    `on_news` hears when waiting calls may try again.
    """

    def __init__(
        self, till: Till, store: LeaseStore, clock: Clock, on_news: Callable[[], None]
    ) -> None:
        self._till = till
        self._store = store
        self._clock = clock
        self._on_news = on_news
        self._wanted: set[QuotaPocket] = set()
        self._task: asyncio.Task[None] | None = None
        self._is_down = False
        self._may_hold = True
        self.limits: Mapping[str, Limit] = {}
        # Its own thread: a registry that hangs holds up nobody else's work.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="modelyard-leases")

    def want(self, pocket: QuotaPocket) -> None:
        """Ask the registry for more, soon; `pocket.needed` is what calls wait for."""
        self._wanted.add(pocket)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run())
            self._task.add_done_callback(self._end)

    async def beat(self) -> None:
        """Say that this home lives, and learn how many do."""
        alive = await self._ask_store(self._store.beat, self._till.node)
        if alive is not None:
            self._till.cells[Head.NODES] = max(alive, 1)

    async def round(self) -> None:
        """Report, renew, answer wants, and close what is over: for the home, when it is time.

        Without limits, and when the home's last lease is closed, there is nothing to do.
        """
        if not self.limits and not self._may_hold:
            return
        with self._till:
            beats = self._is_time(Head.NEXT_BEAT, _BEAT_NS)
            looks = self._is_time(Head.NEXT_ROUND, _ROUND_NS)
            reports = looks and self._is_time(Head.NEXT_REPORT, _REPORT_NS)
            renews = reports and self._is_time(Head.NEXT_RENEWAL, _RENEWAL_NS)
        if beats:
            await self.beat()
        if looks:
            async with self._claimed():
                await self._look(reports, renews)

    async def close(self) -> None:
        """Say the last of a home that nobody works in any more: all of its leases are given back.

        Of what cannot be said now, the next to work in this home says it.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S), self._claimed():
                await self._look(reports=True, renews=True, leaves=True)
                await self._ask_store(self._store.leave, self._till.node)

    def stop(self) -> None:
        """Ask no more."""
        if self._task is not None:
            self._task.cancel()
        self._thread.shutdown(wait=False)

    def _is_time(self, cell: Head, every_ns: int) -> bool:
        """Whether it is, and this worker's turn then; a clock that was reset makes it time too."""
        now_ns, next_ns = self._clock.monotonic_ns(), self._till.cells[cell]
        if now_ns < next_ns <= now_ns + every_ns:
            return False
        self._till.cells[cell] = now_ns + every_ns
        return True

    def _end(self, task: "asyncio.Task[None]") -> None:
        self._task = None
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("leasing of quotas failed: %r", error)

    async def _run(self) -> None:
        while self._wanted:
            async with self._claimed():
                pockets, self._wanted = self._wanted, set()
                with self._till:
                    asks = [self._ask(pocket) for pocket in pockets if not self.is_down]
                await self._exchange(asks)
            self._on_news()

    @property
    def is_down(self) -> bool:
        """Whether the registry did not answer a moment ago."""
        return self._clock.monotonic_ns() < self._till.cells[Head.DOWN_UNTIL]

    @contextlib.asynccontextmanager
    async def _claimed(self) -> "AsyncIterator[None]":
        """While this worker is who speaks for the home."""
        while True:
            with self._till:
                if self._till.claim():
                    break
            await asyncio.sleep(_QUEUE_S)
        try:
            yield
        except asyncio.CancelledError:
            # What was asked may still be done: nobody else speaks before this process has ended.
            raise
        except BaseException:
            self._till.unclaim()
            raise
        self._till.unclaim()

    async def _look(self, reports: bool, renews: bool, leaves: bool = False) -> None:
        held = await self._ask_store(self._store.held, self._till.node)
        if held is None:
            return
        self._may_hold = any(lease.granted > lease.spent for lease in held)
        now_s = self._clock.wall()
        asks = []
        with self._till:
            for lease in held:
                limit = self.limits.get(lease.limit)
                is_over = leaves or limit is None or period_at(limit.period, now_s) != lease.period
                ask = self._say_of(_Standing(limit, lease, is_over), reports, renews)
                if ask is not None:
                    asks.append(ask)
        if asks:
            await self._exchange(asks)
            self._on_news()

    def _say_of(self, standing: _Standing, reports: bool, renews: bool) -> Ask | None:
        """What is to be said of a lease now; None for nothing."""
        lease, cells = standing.lease, self._till.cells
        row = self._till.look_up(row_key(lease.words, lease.period))
        if row is None:
            if lease.granted == lease.spent:
                return None
            # It was granted, and whoever asked died before it was in the till: nobody has it.
            return Ask(
                limit=lease.limit, words=lease.words, period=lease.period, quota=_ANY, is_new=True
            )
        cells[row + Cell.WANTED] = lease.wanted
        ask = self._say(
            standing.limit, lease, row, closes=standing.is_over, quota=_quota(standing.limit)
        )
        if (ask.kept, ask.spent) == (lease.granted, lease.spent) and standing.is_over:
            if self._till.is_forgettable(row):
                self._till.free(row)
            return None
        is_news = ask.answered != lease.answered or ask.kept < lease.granted
        is_changed = ask.spent != lease.spent or (renews and ask.kept > ask.spent)
        return ask if is_news or (reports and is_changed) else None

    def _ask(self, pocket: QuotaPocket) -> Ask:
        pocket.bind()
        cells, row, now_ns = self._till.cells, pocket.row, self._clock.monotonic_ns()
        quota = _quota(pocket.limit)
        smallest = max(quota // _SMALLEST_PART, 1)
        size = cells[row + Cell.SIZE]
        if size and now_ns - cells[row + Cell.ASKED_AT] < _ENOUGH_NS:
            size = min(2 * size, quota)
        else:
            size = max(size // 2, smallest)
        cells[row + Cell.SIZE], cells[row + Cell.ASKED_AT] = size, now_ns
        told = Lease(
            limit=pocket.limit.id, words=pocket.words, period=pocket.period, granted=0, spent=0
        )
        return self._say(pocket.limit, told, row, needed=pocket.needed, more=size, quota=quota)

    def _say(
        self,
        limit: Limit | None,
        lease: Lease,
        row: int,
        *,
        quota: int,
        needed: int = 0,
        more: int = 0,
        closes: bool = False,
    ) -> Ask:
        """What this home keeps and has spent; what others want, or is over, is given back."""
        till, cells = self._till, self._till.cells
        base, wanted = cells[row + Cell.BASE], cells[row + Cell.WANTED]
        if base < 0:
            return Ask(
                limit=lease.limit,
                words=lease.words,
                period=lease.period,
                quota=quota,
                least=needed,
                more=more,
                is_new=True,
            )
        taken = base + till.taken(row)
        if closes or wanted:
            cells[row + Cell.TIGHT] = 1
            if not till.is_at_hand(row):
                taken = base + till.taken(row)
                cells[row + Cell.GRANTED] -= max(cells[row + Cell.GRANTED] - taken - needed, 0)
                cells[row + Cell.ANSWERED] = wanted
        return Ask(
            limit=lease.limit,
            words=lease.words,
            period=lease.period,
            quota=quota,
            kept=max(cells[row + Cell.GRANTED], taken),
            spent=base + till.settled(row),
            least=max(needed - max(cells[row + Cell.GRANTED] - taken, 0), 0),
            more=more,
            answered=cells[row + Cell.ANSWERED],
        )

    async def _exchange(self, asks: Sequence[Ask]) -> None:
        """The till then has what the registry said."""
        if not asks:
            return
        leases = await self._ask_store(self._store.exchange, self._till.node, asks)
        if leases is None:
            return
        with self._till:
            for ask, lease in zip(asks, leases, strict=True):
                self._apply(ask, lease)

    def _apply(self, ask: Ask, lease: Lease) -> None:
        cells = self._till.cells
        row = self._till.look_up(row_key(ask.words, ask.period))
        if row is None:
            return
        had = ask.kept
        if ask.is_new:
            had = lease.spent
            # Nothing is granted before it is known what was spent: killed in between, none is free.
            cells[row + Cell.GRANTED] = 0
            cells[row + Cell.BASE] = lease.spent
        cells[row + Cell.GRANTED] = lease.granted
        cells[row + Cell.WANTED] = lease.wanted
        is_short = lease.granted < had + ask.least
        if ask.least:
            now_ns = self._clock.monotonic_ns()
            cells[row + Cell.REFUSED_AT] = now_ns if is_short and not lease.is_owed else 0
            cells[row + Cell.OWED_UNTIL] = now_ns + _OWED_NS if is_short and lease.is_owed else 0

    async def _ask_store(self, ask: "Callable[..., _T]", *arguments: object) -> _T | None:
        """What the registry says; None where it does not answer."""
        loop = asyncio.get_running_loop()
        asked = loop.run_in_executor(self._thread, ask, *arguments)
        while not (await asyncio.wait((asked,), timeout=_PATIENCE_S))[0]:
            # It hangs. Calls hear so at once; but what was asked may still be done, and nothing
            # else is asked before that is known.
            self._take_down("the registry does not answer")
        try:
            answer = asked.result()
        except Exception as error:  # noqa: BLE001 - whatever is wrong with it, it did not answer
            self._take_down(error.message if isinstance(error, ModelyardError) else repr(error))
            return None
        self._is_down = False
        self._till.cells[Head.DOWN_UNTIL] = 0
        return answer

    def _take_down(self, why: str) -> None:
        if not self._is_down:
            _log.warning("quotas go on within what is leased: %s", why)
        self._is_down = True
        self._till.cells[Head.DOWN_UNTIL] = self._clock.monotonic_ns() + _DOWN_NS
        self._on_news()


def _quota(limit: Limit | None) -> int:
    return _ANY if limit is None else limit.amount * limit.step
