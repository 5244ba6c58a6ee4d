"""A process follows the rules of its registry: what changes there is in force here at once."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from modelyard.core.rules import Rules
from modelyard.gateway.access import KeyedAccess

_log = logging.getLogger(__name__)

LONGEST_WAIT_S: Final = 0.25
"""Between two looks, however seldom routes are looked at: a revoked key is dead within a second."""
_SILENCE_S: Final = 5.0
"""A look that takes longer counts as one that failed."""
_PATIENCE_S: Final = 10.0
_NEVER: Final = float("inf")
"""When rules were confirmed that are not there: what is not there cannot lapse."""


class RulesSource(Protocol):
    """Where rules are written: the registry."""

    def rules(self, known: int | None) -> Rules | None:
        """All of them, or None where their sequence is `known`. Raises where nobody answers."""
        ...


Remembered = Callable[[], tuple[Rules, float] | None]
"""Rules that were in force before this process began, and at which Unix time they were read."""


def nothing_remembered() -> None:
    """For a process that has no snapshot."""


class RulesFollower:
    """Moves an access, and whoever else goes by rules, to what the registry has.

    One thread looks; what it finds is put in force on the event loop. A registry that cannot be
    read changes nothing, but that unknown keys are not called bad, and that after `longest_s`
    without it nobody is let in any more.
    """

    def __init__(
        self,
        source: RulesSource,
        access: KeyedAccess,
        *,
        every_s: float,
        longest_s: float,
        remembered: Remembered = nothing_remembered,
    ) -> None:
        self._source = source
        self._remembered = remembered
        self._access = access
        self._every_s = min(every_s, LONGEST_WAIT_S)
        self._longest_s = longest_s
        self._subscribers: list[Callable[[Rules], None]] = []
        self._stop = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._looked = asyncio.Event()
        self._heard_s = 0.0
        self._watchdog: asyncio.TimerHandle | None = None
        self._is_reachable = True

    def subscribe(self, on_rules: Callable[[Rules], None]) -> None:
        """Have this called on the loop with every set of rules, before callers go by them."""
        self._subscribers.append(on_rules)

    async def start(self) -> None:
        """Follow from now on; returns when the first look is over, or takes too long."""
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._watch, name="modelyard rules", daemon=True)
        self._thread.start()
        try:
            await asyncio.wait_for(self._looked.wait(), _PATIENCE_S)
        except TimeoutError:
            _log.warning("the registry does not say its rules; starting without them")
        self._mind_silence()

    async def stop(self, grace_s: float = _PATIENCE_S) -> None:
        """Follow no more; a look that hangs is left behind after `grace_s` seconds."""
        self._stop.set()
        if self._watchdog is not None:
            self._watchdog.cancel()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, grace_s)

    def _watch(self) -> None:
        """Look again and again, in a thread of its own."""
        known: int | None = None
        confirmed_at: float | None = None
        while not self._stop.is_set():
            try:
                rules = self._source.rules(known)
            except Exception as error:  # noqa: BLE001 - a database may raise anything
                if self._is_reachable:
                    _log.warning("the rules cannot be read; those in force go on: %s", error)
                if confirmed_at is None:
                    confirmed_at = self._remember()
                elif time.time() - confirmed_at > self._longest_s:
                    confirmed_at, known = self._lapse(), None
                self._is_reachable = False
                self._post(self._hear, None, False)
            else:
                if not self._is_reachable:
                    _log.warning("the rules can be read again")
                self._is_reachable = True
                confirmed_at = time.time()
                if rules is not None:
                    known = rules.sequence
                self._post(self._hear, rules, True)
            self._stop.wait(self._every_s)

    def _remember(self) -> float:
        """Go by what is remembered, where there is something; since when it holds."""
        remembered = self._remembered()
        if remembered is None:
            return _NEVER
        rules, confirmed_at = remembered
        _log.warning("going by the rules of %.0f s ago", time.time() - confirmed_at)
        self._post(self._apply, rules)
        return confirmed_at

    def _lapse(self) -> float:
        """Forget rules that nobody has confirmed for too long."""
        _log.error("the rules were last read too long ago: nobody is let in until they are again")
        self._post(self._access.replace, Rules())
        return _NEVER

    def _post(self, act: Callable[..., object], *arguments: object) -> None:
        """Do something on the loop's thread, unless the loop is closed: then nobody is left."""
        try:
            self._loop.call_soon_threadsafe(act, *arguments)
        except RuntimeError:
            if not self._loop.is_closed():
                raise

    def _hear(self, rules: Rules | None, is_current: bool) -> None:
        self._heard_s = time.monotonic()
        if rules is not None:
            self._apply(rules)
        self._access.mark_current(is_current)
        self._looked.set()

    def _apply(self, rules: Rules) -> None:
        for on_rules in self._subscribers:
            try:
                on_rules(rules)
            except Exception:  # noqa: BLE001 - other parts of the house
                # A revoked key must die, whoever cannot take the rest of the rules.
                _log.exception("rules %d were not taken in by all", rules.sequence)
        self._access.replace(rules)

    def _mind_silence(self) -> None:
        if time.monotonic() - self._heard_s > _SILENCE_S:
            self._access.mark_current(False)
        self._watchdog = self._loop.call_later(1.0, self._mind_silence)
