"""A progressive roll-out: steps from one version to another, and the guards that hold them.

Plain values: who starts one writes them down, servers move it, and everybody may look.
"""

import datetime
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from modelyard.core.errors import Invalid

LEAST_CALLS: Final = 100
"""Fewer calls say nothing of a 99% quantile: not one of them need lie above it."""

Unit = Literal["%", "x", "ns"]
Verdict = Literal["held", "broken", "waits"]
Progress = Literal["running", "done", "rolled_back", "stopped"]

_QUANTILES: Final = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99}
_AGREEMENTS: Final = ("agreement", "label_agreement")
_MEASURES: Final = ("error_rate", *_QUANTILES, *_AGREEMENTS)
_GUARD: Final = re.compile(r"(\w+)\s*(<=|>=)\s*(\d+(?:\.\d+)?)\s*(%|x|us|ms|s)")
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
_NS: Final = {"us": 1e3, "ms": 1e6, "s": 1e9}
_SECONDS: Final = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}


@dataclass(frozen=True, slots=True)
class Guard:
    """What must hold of the candidate, as `error_rate<=0.1%`, `p99<=1.2x` or `agreement>=99%`.

    `bound` is a share where `unit` is `%`, a multiple of what the stable version does in the same
    window where it is `x`, and else nanoseconds.
    """

    text: str
    measure: str
    bound: float
    unit: Unit

    @property
    def is_relative(self) -> bool:
        """Whether the stable version is the yardstick."""
        return self.unit == "x"

    @property
    def compares(self) -> bool:
        """Whether the answers of both versions must be compared."""
        return self.measure in _AGREEMENTS

    @property
    def quantile(self) -> float | None:
        """The share of calls that may take no longer than the bound; None where none is meant."""
        return _QUANTILES.get(self.measure)

    @staticmethod
    def parse(text: str) -> "Guard":
        """Read one guard; raises `Invalid`."""
        text = "".join(text.split())
        match = _GUARD.fullmatch(text)
        if match is None or match[1] not in _MEASURES:
            raise _bad_guard(text, f"write NAME<=BOUND, NAME one of {', '.join(_MEASURES)}")
        measure, sign, number, unit = match[1], match[2], float(match[3]), match[4]
        if measure in _AGREEMENTS:
            if sign != ">=" or unit != "%" or number > 100:
                raise _bad_guard(text, f"write {measure}>=99%")
            return Guard(text, measure, number / 100, "%")
        wanted = "0.1% or 2x" if measure == "error_rate" else "20ms or 1.2x"
        if sign != "<=" or (unit == "%") != (measure == "error_rate" and unit != "x"):
            raise _bad_guard(text, f"write {measure}<= and a bound such as {wanted}")
        if unit == "x":
            if not number:
                raise _bad_guard(text, "a multiple must be greater than 0x")
            return Guard(text, measure, number, "x")
        if unit == "%":
            if number > 100:
                raise _bad_guard(text, "no more than 100% of the calls can fail")
            return Guard(text, measure, number / 100, "%")
        return Guard(text, measure, number * _NS[unit], "ns")


def parse_guards(text: str) -> tuple[Guard, ...]:
    """Read guards with commas between them; raises `Invalid`."""
    return tuple(Guard.parse(part) for part in text.split(",") if part.strip())


def parse_steps(text: str) -> tuple[float, ...]:
    """Read `1%,10%,50%,100%`; raises `Invalid`."""
    return tuple(parse_percent(part, "progressive") for part in text.split(","))


def parse_percent(text: str, name: str) -> float:
    """Read `10%` or `10`; raises `Invalid` naming the field."""
    try:
        return float(text.strip().removesuffix("%"))
    except ValueError:
        raise Invalid(
            "bad_percent", f"'{text:.40}' is no share of the calls: write 10%", field=name
        ) from None


def parse_duration_s(text: str, name: str) -> float:
    """Read `60s`, `5m`, `1h`, `90d` or `500ms` as seconds; raises `Invalid` naming the field."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise Invalid(
            "bad_duration", f"'{text:.40}' is no duration: write 60s, 5m or 1h", field=name
        )
    return float(match[1]) * _SECONDS[match[2]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How a roll-out goes: shares in percent up to 100, how long each is held, and the guards.

    A step is left when it was held for `every_s` seconds and the candidate has had `least_calls`.
    """

    steps: tuple[float, ...]
    every_s: float = 60.0
    guards: tuple[Guard, ...] = ()
    least_calls: int = LEAST_CALLS

    def __post_init__(self) -> None:
        grows = all(low < high for low, high in zip((0.0, *self.steps), self.steps, strict=False))
        if len(self.steps) < 2 or not grows or self.steps[-1] != 100.0:
            raise Invalid(
                "bad_steps",
                "a roll-out's steps grow from above 0% to 100%, as in 1%,10%,50%,100%; "
                "to move all calls at once, deploy without it",
                field="progressive",
            )
        if not 0.1 <= self.every_s <= 30 * 86_400:
            raise Invalid("bad_duration", "a step is held between 0.1 s and 30 days", field="every")
        if not 1 <= self.least_calls <= 10**9:
            raise Invalid(
                "bad_least_calls", "a step waits for 1 to 10^9 calls", field="least_calls"
            )

    @property
    def compares(self) -> bool:
        """Whether the candidate's answers must be compared with the stable version's."""
        return any(guard.compares for guard in self.guards)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a version did in some time; sums over workers. Calls that callers spoilt count nowhere.

    `buckets` are calls by latency, as `serving.statistics` has them.
    """

    calls: int = 0
    failures: int = 0
    compared: int = 0
    agreed: int = 0
    labels_agreed: int = 0
    buckets: Mapping[int, int] = field(default_factory=dict)

    def __add__(self, other: "Figures") -> "Figures":
        return self._combined(other, 1)

    def __sub__(self, other: "Figures") -> "Figures":
        return self._combined(other, -1)

    def _combined(self, other: "Figures", sign: int) -> "Figures":
        buckets = dict(self.buckets)
        for bucket, count in other.buckets.items():
            buckets[bucket] = buckets.get(bucket, 0) + sign * count
        return Figures(
            calls=self.calls + sign * other.calls,
            failures=self.failures + sign * other.failures,
            compared=self.compared + sign * other.compared,
            agreed=self.agreed + sign * other.agreed,
            labels_agreed=self.labels_agreed + sign * other.labels_agreed,
            buckets={bucket: count for bucket, count in buckets.items() if count},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a guard saw: the candidate's value, what it was held against, and over how many calls.

    Shares are 0 to 1, times in nanoseconds; None where there was nothing to see.
    """

    guard: str
    verdict: Verdict
    value: float | None = None
    bound: float | None = None
    calls: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """One change that a roll-out made, and the numbers that it was made on."""

    number: int
    at: datetime.datetime
    verdict: str
    percent: float
    readings: tuple[Reading, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """A roll-out as it stands. `step` counts from 0; `reason` says why it ended or what it waits
    for; until `led_until` a worker has said that it moves it."""

    id: int
    model: str
    stable: int
    candidate: int
    plan: Plan
    actor: str
    started: datetime.datetime
    state: Progress
    step: int
    next_at: datetime.datetime | None
    ended: datetime.datetime | None
    led_until: datetime.datetime | None
    reason: str
    moves: tuple[Move, ...] = ()

    @property
    def percent(self) -> float:
        """The share of the calls that the present step gives the candidate."""
        return self.plan.steps[self.step]


@dataclass(frozen=True, slots=True)
class Standing:
    """A roll-out for the one who may move it, and what each version did since the step began."""

    rollout: Rollout
    figures: Mapping[int, Figures]


def _bad_guard(text: str, hint: str) -> Invalid:
    return Invalid("bad_guard", f"'{text:.80}' is no guard: {hint}", field="guard")
