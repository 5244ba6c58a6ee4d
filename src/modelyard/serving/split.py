"""A split: which of several versions answers a call."""

import hashlib
import os
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from modelyard.core.ports import Headers
from modelyard.core.route import Target
from modelyard.serving.endpoint import Endpoint

_ALL: Final = 1 << 64
_STRIDE: Final = 0x9E3779B97F4A7C15
"""2^64 over the golden ratio: multiples of it, modulo 2^64, spread more evenly than those of any
other number (Knuth, The Art of Computer Programming, volume 3, 6.4, theorem S)."""


class Spread:
    """Says yes to a share of the questions, evenly: of any hundred, 10% are ten or nearly so."""

    __slots__ = ("_bound", "_place")

    def __init__(self, percent: float) -> None:
        self._bound = bound_of(percent)
        # Workers begin in different places, or the first call of each would go the same way.
        self._place = int.from_bytes(os.urandom(8))

    def next(self) -> int:
        """The next place, 0 to 2^64 - 1."""
        self._place = place = (self._place + _STRIDE) % _ALL
        return place

    def takes(self) -> bool:
        """Whether this one is of the share."""
        return self.next() < self._bound


class Split:
    """Calls to a model go to several versions, each its share. Used on the event loop's thread.

    The first target is the stable one. Places are dealt from the last target on: so whoever is on
    a canary stays there when its share grows.
    """

    def __init__(
        self, model: str, sticky: str, targets: Sequence[Target], endpoints: Sequence[Endpoint]
    ) -> None:
        self._stable = endpoints[0]
        self._endpoints = endpoints[::-1]
        self._bounds: list[int] = []
        percent = 0.0
        for target in targets[:0:-1]:
            percent += target.percent
            self._bounds.append(bound_of(percent))
        self._spread = Spread(100.0)
        self._sticky = sticky.encode()
        # Another canary is tried on other callers.
        self._hash = hashlib.blake2b(f"{model}:{targets[-1].version}:".encode(), digest_size=8)

    @property
    def stable(self) -> Endpoint:
        """The version that answers wherever another cannot."""
        return self._stable

    def choose(self, headers: Headers) -> Endpoint:
        """The version for a call: by the sticky header's value where there is one, else evenly."""
        value = headers.get(self._sticky) if self._sticky else None
        place = self._spread.next() if not value else self._place_of(value)
        endpoint = self._endpoints[bisect_right(self._bounds, place)]
        if endpoint.trouble is not None and self._stable.trouble is None:
            return self._stable
        return endpoint

    def _place_of(self, value: bytes) -> int:
        """The same in every worker, on every node."""
        digest = self._hash.copy()
        digest.update(value)
        return int.from_bytes(digest.digest())


def bound_of(percent: float) -> int:
    """Places below it are that share of all."""
    return round(percent / 100.0 * _ALL)
