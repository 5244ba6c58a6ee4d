"""A route: where calls to a model go, and how the versions behind it are served.

Written in the registry, followed by nodes. A plain value: whoever changes a route makes a new one.
"""

from dataclasses import dataclass
from typing import Literal

Isolation = Literal["none", "process"]
Place = Literal["auto", "worker", "process"]


@dataclass(frozen=True, slots=True)
class Target:
    """A version that answers calls, and its share of them in percent."""

    version: int
    percent: float = 100.0


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that gets a copy of some calls; its answers are compared and thrown away."""

    version: int
    percent: float = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a model's versions are served; None takes the node's own setting.

    `window_us` is how long a batch may wait for more calls, `preferred_rows` the batch sizes worth
    waiting for, `p99_ms` the latency objective, `timeout_ms` the deadline of calls that bring none,
    `cache_bytes` the room of the response cache (0: no cache), `threads` those of one run.
    """

    queue_rows: int | None = None
    max_batch_rows: int | None = None
    window_us: int | None = None
    preferred_rows: tuple[int, ...] = ()
    inline_us: int | None = None
    lanes: int | None = None
    threads: int | None = None
    p99_ms: float | None = None
    timeout_ms: float | None = None
    cache_bytes: int | None = None
    isolation: Isolation | None = None
    place: Place | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a model's calls go. The percents of `targets` add up to 100.

    `sticky` names the request header by whose value a caller is kept on one target; empty leaves
    each call to chance. `generation` grows with every change of any route.
    """

    model: str
    generation: int
    targets: tuple[Target, ...]
    shadow: Shadow | None = None
    sticky: str = ""
    options: Options = Options()

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version that a node needs for this route, each once, targets first."""
        shadows = (self.shadow.version,) if self.shadow is not None else ()
        return tuple(dict.fromkeys((*(target.version for target in self.targets), *shadows)))
