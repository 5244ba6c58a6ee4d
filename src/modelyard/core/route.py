"""A route: where calls to a model go, and how the versions behind it are served.

Written in the registry, followed by nodes. A plain value: whoever changes a route makes a new one.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Literal

from modelyard.core.errors import Conflict, Invalid

Isolation = Literal["none", "process"]
Place = Literal["auto", "worker", "process"]


@dataclass(frozen=True, slots=True)
class Target:
    """A version that answers calls, and its share of them in percent."""

    version: int
    percent: float = 100.0


@dataclass(frozen=True, slots=True)
class Shadow:
    """A version that gets a copy of some calls; its answers are compared and thrown away.

    Calls that it answered itself are not copied: so the stable version of a canary can be the
    shadow of the canary.
    """

    version: int
    percent: float = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a model's versions are served; None takes the node's own setting."""

    queue_rows: int | None = field(
        default=None, metadata={"doc": "Rows that may wait; past that the answer is 429."}
    )
    max_batch_rows: int | None = field(
        default=None,
        metadata={"doc": "Most rows that run as one batch; else found by measurement, up to 1024."},
    )
    window_us: int | None = field(
        default=None,
        metadata={
            "doc": "Microseconds that a batch may wait for more calls, while fewer rows are there "
            "than it may have; else none."
        },
    )
    preferred_rows: tuple[int, ...] = field(
        default=(), metadata={"doc": "Batch sizes that are worth waiting for within the window."}
    )
    inline_us: int | None = field(
        default=None,
        metadata={"doc": "A batch expected to cost less runs on the event loop; 0: none does."},
    )
    lanes: int | None = field(
        default=None, metadata={"doc": "Batches that run side by side, each in a thread."}
    )
    threads: int | None = field(default=None, metadata={"doc": "Threads of one run of the model."})
    p99_ms: float | None = field(
        default=None,
        metadata={
            "doc": "Latency objective: batches are kept small enough for it, and calls that would "
            "come too late are refused at once."
        },
    )
    timeout_ms: float | None = field(
        default=None, metadata={"doc": "Deadline of calls that bring none; else they have none."}
    )
    cache_bytes: int | None = field(
        default=None, metadata={"doc": "Room of each worker's response cache; else there is none."}
    )
    isolation: Isolation | None = field(
        default=None, metadata={"doc": "`process` gives the model a process of its own."}
    )
    place: Place | None = field(
        default=None,
        metadata={
            "doc": "`worker` (a copy in each), `process` (one for all workers), or `auto`: by size "
            "and measured cost."
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Where a model's calls go: the stable version first. The percents of `targets` add up to 100.

    `sticky` names the request header by whose value a caller is kept on one target; empty spreads
    calls evenly. `generation` grows with every change of any route.
    """

    model: str
    generation: int
    targets: tuple[Target, ...]
    shadow: Shadow | None = None
    sticky: str = ""
    options: Options = Options()

    @property
    def number(self) -> int:
        """The stable version: the first target, to which a rollback of a canary returns."""
        return self.targets[0].version

    @property
    def canary(self) -> Target | None:
        """The version on trial, where there is one."""
        return self.targets[-1] if len(self.targets) > 1 else None

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version that a node needs for this route, each once, targets first."""
        shadows = (self.shadow.version,) if self.shadow is not None else ()
        return tuple(dict.fromkeys((*(target.version for target in self.targets), *shadows)))

    def only(self, number: int) -> "Route":
        """All calls to one version; stickiness and options stay."""
        return dataclasses.replace(self, targets=(Target(number),), shadow=None)

    def with_canary(self, number: int, percent: float) -> "Route":
        """That share of the calls to a second version; raises `Conflict`, `Invalid`."""
        if not 0 < percent < 100:
            raise Invalid(
                "bad_percent",
                f"a canary takes more than 0% and less than 100% of the calls, not {percent:g}%; "
                "for all of them, deploy or promote it",
                field="canary",
            )
        self._check_second(number, "canary")
        targets = (Target(self.number, 100.0 - percent), Target(number, percent))
        return dataclasses.replace(self, targets=targets, shadow=None)

    def with_shadow(self, number: int, percent: float) -> "Route":
        """A copy of that share of the calls to a second version; raises `Conflict`, `Invalid`."""
        if not 0 < percent <= 100:
            raise Invalid(
                "bad_percent",
                f"a shadow gets a copy of more than 0% and at most 100% of the calls, "
                f"not {percent:g}%",
                field="shadow",
            )
        self._check_second(number, "shadow")
        return dataclasses.replace(self.only(self.number), shadow=Shadow(number, percent))

    def promoted(self) -> "Route":
        """All calls to the canary, or else to the shadow; raises `Conflict` without either."""
        second = self.canary or self.shadow
        if second is None:
            raise Conflict(
                "nothing_to_promote",
                f"'{self.model}' has neither a canary nor a shadow; "
                f"deploy one: modelyard deploy {self.model}:VERSION --canary 10%",
                field="model",
            )
        return self.only(second.version)

    def says(self, other: "Route") -> bool:
        """Whether both mean the same, whenever they were written."""
        return dataclasses.replace(other, generation=self.generation) == self

    def _check_second(self, number: int, what: str) -> None:
        if number == self.number:
            raise Conflict(
                "already_routed",
                f"calls to '{self.model}' go to version {number} already; "
                f"a {what} is another version",
                field="version",
            )
