"""Failed credentials by source: past a bound they are told to wait, and nobody else is."""

import ipaddress
import time
from collections.abc import Callable
from typing import Final

from modelyard.core.errors import Exhausted

_WINDOW_S: Final = 60.0


class Guesses:
    """Counts the failures of each source within a minute.

    Only whoever fails asks it, so a good key passes whatever others do from the same address. An
    IPv6 source is its /64, as one subscriber has. Of more than `most_sources` the oldest is
    forgotten.
    """

    def __init__(
        self,
        most: int = 30,
        most_sources: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._most = most
        self._most_sources = most_sources
        self._clock = clock
        self._failures: dict[str, tuple[float, int]] = {}

    def note(self, address: str) -> None:
        """Count one failure; raises `Exhausted` where the source has had too many."""
        source = source_of(address)
        now = self._clock()
        since, count = self._failures.get(source, (now, 0))
        if now - since >= _WINDOW_S:
            since, count = now, 0
            # It is young again: the oldest stays first.
            self._failures.pop(source, None)
        if count >= self._most:
            raise Exhausted(
                "too_many_failures",
                "too many keys that are not good came from this address; wait, and send a good one",
                retry_after_s=max(since + _WINDOW_S - now, 1.0),
            )
        if source not in self._failures and len(self._failures) >= self._most_sources:
            del self._failures[next(iter(self._failures))]
        self._failures[source] = since, count + 1


def source_of(address: str) -> str:
    """What failures of an address are counted under."""
    if ":" not in address:
        return address
    try:
        ip = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(ip) >> 64 << 64, 64)))
