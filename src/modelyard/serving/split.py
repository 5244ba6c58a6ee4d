"""A split: which of several versions answers a call."""

import hashlib
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from modelyard.core.ports import Headers
from modelyard.core.route import Target
from modelyard.serving.endpoint import Endpoint

_ALL: Final = 1 << 64
_STRIDE: Final = 0.6180339887498949
"""The golden ratio: its multiples, modulo 1, spread more evenly than those of any other number
(Knuth, The Art of Computer Programming, volume 3, 6.4, theorem S)."""


class Spread:
    """Says yes to a share of the questions, evenly: of any hundred, 10% are ten or nearly so."""

    __slots__ = ("_place", "_share")

    def __init__(self, percent: float) -> None:
        self._share = percent / 100.0
        self._place = _first_place()

    def takes(self) -> bool:
        """Whether this one is of the share."""
        self._place = place = (self._place + _STRIDE) % 1.0
        return place < self._share


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
        self._bounds = list(accumulate(target.percent / 100.0 for target in targets[:0:-1]))
        self._place = _first_place()
        self._sticky = sticky.encode()
        # Another canary is tried on other callers.
        self._hash = hashlib.blake2b(f"{model}:{targets[-1].version}:".encode(), digest_size=8)

    @property
    def stable(self) -> Endpoint:
        """The version that answers wherever another cannot."""
        return self._stable

    def choose(self, headers: Headers) -> Endpoint:
        """The version for a call: by the sticky header's value where there is one, else evenly."""
        if self._sticky and (value := headers.get(self._sticky)):
            place = self._place_of(value)
        else:
            self._place = place = (self._place + _STRIDE) % 1.0
        endpoint = self._endpoints[bisect_right(self._bounds, place)]
        if endpoint.trouble is not None and self._stable.trouble is None:
            return self._stable
        return endpoint

    def _place_of(self, value: bytes) -> float:
        """The same in every worker, on every node."""
        digest = self._hash.copy()
        digest.update(value)
        return int.from_bytes(digest.digest()) / _ALL


def _first_place() -> float:
    """Workers begin in different places, or the first call of each would go the same way."""
    return random.random()  # noqa: S311 - nobody gains by guessing it
