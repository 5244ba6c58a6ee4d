"""Who came with an administrator's key, and from where credentials came that are not good.

Noted in memory on the event loop, and taken by whoever writes the audit. Refusals are summed by
source and minute: a flood of them is one row, and cannot fill the audit.
"""

import datetime
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from modelyard.core.identity import Actor, Principal, Role
from modelyard.gateway.guesses import source_of

_MINUTE_S: Final = 60
_MOST_SOURCES: Final = 1000
_MOST_LOGINS: Final = 1000
_OTHERS: Final = "others"


@dataclass(frozen=True, slots=True)
class Login:
    """An administrator's key was used from a source, for the first time within an hour."""

    at: datetime.datetime
    actor: Actor


@dataclass(frozen=True, slots=True)
class Refusals:
    """So many credentials from a source were not good in the minute that began then.

    The source `others` stands for all that there was no room to tell apart.
    """

    at: datetime.datetime
    source: str
    count: int


class Visits:
    """Notes visits; bounded, whatever comes. Noting is the loop's, taking any thread's."""

    def __init__(self, hush_s: float = 3600.0, clock: Callable[[], float] = time.time) -> None:
        self._hush_s = hush_s
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, str], float] = {}
        self._logins: list[Login] = []
        self._refused: dict[tuple[int, str], int] = {}

    def enter(self, principal: Principal, address: str) -> None:
        """Somebody was let in."""
        if principal.role is not Role.ADMIN:
            return
        now, visit = self._clock(), (principal.key, address)
        with self._lock:
            if now - self._seen.get(visit, -self._hush_s) < self._hush_s:
                return
            if len(self._seen) >= _MOST_LOGINS:
                del self._seen[next(iter(self._seen))]
            self._seen[visit] = now
            if len(self._logins) < _MOST_LOGINS:
                actor = Actor(
                    name=principal.name, key=principal.key, tenant=principal.tenant, source=address
                )
                self._logins.append(Login(_moment(now), actor))

    def refuse(self, address: str) -> None:
        """Somebody was not."""
        minute = int(self._clock()) // _MINUTE_S
        source = source_of(address)
        with self._lock:
            if (minute, source) not in self._refused and len(self._refused) >= _MOST_SOURCES:
                source = _OTHERS
            self._refused[minute, source] = self._refused.get((minute, source), 0) + 1

    def take(self, *, is_last: bool = False) -> list[Login | Refusals]:
        """What was noted: logins, and refusals of minutes that are over, or all at the last."""
        present = int(self._clock()) // _MINUTE_S
        with self._lock:
            logins, self._logins = self._logins, []
            over = [each for each in self._refused if is_last or each[0] < present]
            refusals = [
                Refusals(_moment(each[0] * _MINUTE_S), each[1], self._refused.pop(each))
                for each in over
            ]
        return [*logins, *refusals]


def _moment(unix_s: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(unix_s, datetime.UTC)
