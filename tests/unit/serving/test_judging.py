"""Guards break where chance does not explain what was seen, and only there."""

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.rollout import Figures, Guard
from modelyard.serving.judging import judge, tail
from modelyard.serving.report import BUCKETS_A_DOUBLING, FLOOR_NS

NONE = Figures()


def verdict(text: str, candidate: Figures, stable: Figures = NONE, least: int = 100) -> str:
    return judge(Guard.parse(text), candidate, stable, least).verdict


def taking(*milliseconds: float) -> Figures:
    """Calls that took so long."""
    buckets: dict[int, int] = {}
    for each in milliseconds:
        bucket = int(math.log2(each * 1e6 / FLOOR_NS) * BUCKETS_A_DOUBLING)
        buckets[bucket] = buckets.get(bucket, 0) + 1
    return Figures(calls=len(milliseconds), buckets=buckets)


@settings(max_examples=80, deadline=None)
@given(trials=st.integers(1, 60), chance=st.floats(0.001, 0.999), data=st.data())
def test_the_tail_is_the_binomials(trials: int, chance: float, data: st.DataObject) -> None:
    """Beyond the mean it is the sum of the terms; up to the mean it says that chance explains."""
    successes = data.draw(st.integers(0, trials))
    exact = sum(
        math.comb(trials, k) * chance**k * (1 - chance) ** (trials - k)
        for k in range(successes, trials + 1)
    )
    if successes > trials * chance:
        assert tail(trials, successes, chance) == pytest.approx(exact, rel=1e-6)
    else:
        assert tail(trials, successes, chance) == 1.0
        assert exact > 0.2


def test_the_tail_of_many_trials_is_quick_and_right() -> None:
    """A million calls: three times the deviation is about one in a thousand."""
    assert tail(10**6, 1000 + 98, 0.001) == pytest.approx(1.2e-3, rel=0.1)
    assert tail(10**6, 10**6, 0.5) == 0.0
    assert tail(100, 1, 0.0) == 0.0
    assert tail(100, 0, 0.0) == 1.0


def test_one_failure_of_a_hundred_is_chance_and_five_are_not() -> None:
    """At a bound of 0.1%, and a bound of nothing is broken by the first failure."""
    guard = "error_rate<=0.1%"
    assert verdict(guard, Figures(calls=100, failures=1)) == "held"
    assert verdict(guard, Figures(calls=100, failures=5)) == "broken"
    assert verdict("error_rate<=0%", Figures(calls=100, failures=1)) == "broken"
    assert verdict(guard, Figures(calls=99, failures=99)) == "waits"
    assert verdict(guard, NONE) == "waits"


def test_failures_are_held_against_those_of_the_stable_version() -> None:
    """Where both fail alike nothing breaks; where only the candidate does, it does."""
    guard = "error_rate<=2x"
    stable = Figures(calls=900, failures=90)
    assert verdict(guard, Figures(calls=100, failures=12), stable) == "held"
    assert verdict(guard, Figures(calls=100, failures=50), stable) == "broken"
    assert verdict(guard, Figures(calls=100, failures=3), Figures(calls=900)) == "held"
    assert verdict(guard, Figures(calls=100, failures=8), Figures(calls=900)) == "broken"
    assert verdict(guard, Figures(calls=100, failures=50), Figures(calls=99)) == "waits"


def test_a_quantile_is_held_against_a_time() -> None:
    """One slow call of a hundred is what a 99% quantile allows; ten are not."""
    assert verdict("p99<=20ms", taking(*[1.0] * 99, 50.0)) == "held"
    assert verdict("p99<=20ms", taking(*[1.0] * 90, *[50.0] * 10)) == "broken"
    assert verdict("p50<=20ms", taking(*[1.0] * 60, *[50.0] * 40)) == "held"
    assert verdict("p50<=20ms", taking(*[50.0] * 100)) == "broken"
    assert verdict("p99<=20ms", taking(*[19.9] * 1000)) == "held"


def test_a_quantile_is_held_against_that_of_the_stable_version() -> None:
    """A candidate twice as slow breaks 1.2x, even where the stable version has an outlier."""
    stable = taking(*[1.0] * 899, 500.0)
    assert verdict("p99<=1.2x", taking(*[1.0] * 100), stable) == "held"
    assert verdict("p99<=1.2x", taking(*[2.0] * 100), stable) == "broken"
    assert verdict("p50<=1.2x", taking(*[2.0] * 100), stable) == "broken"
    assert verdict("p99<=3x", taking(*[2.0] * 100), stable) == "held"


def test_agreement_is_a_share_of_what_was_compared() -> None:
    """Calls that were not compared say nothing; labels are counted for themselves."""
    figures = Figures(calls=10_000, compared=1000, agreed=900, labels_agreed=1000)
    assert verdict("agreement>=99%", figures) == "broken"
    assert verdict("agreement>=90%", figures) == "held"
    assert verdict("label_agreement>=99%", figures) == "held"
    assert verdict("agreement>=99%", Figures(calls=10_000, compared=10, agreed=0)) == "waits"
    assert verdict("agreement>=100%", Figures(compared=100, agreed=99)) == "broken"


def test_a_reading_has_its_numbers() -> None:
    """What was seen, what it was held against, and over how many calls."""
    guard = Guard.parse("error_rate<=2x")
    reading = judge(guard, Figures(calls=200, failures=3), Figures(calls=400, failures=4), 100)
    assert (reading.value, reading.bound, reading.calls) == (0.015, 0.02, 200)


def test_equal_versions_seldom_break_a_guard() -> None:
    """In 300 roll-outs of a version like the stable one, looked at often, few break by chance."""
    chance = random.Random(7)
    broken = 0
    for _ in range(300):
        candidate, stable = NONE, NONE
        for _ in range(20):
            candidate += _window(chance, 25)
            stable += _window(chance, 225)
            texts = ("error_rate<=1x", "p99<=1x")
            if any(verdict(text, candidate, stable) == "broken" for text in texts):
                broken += 1
                break
    assert broken <= 9


def _window(chance: random.Random, calls: int) -> Figures:
    times = taking(*(chance.lognormvariate(0.0, 0.5) for _ in range(calls)))
    failures = sum(chance.random() < 0.02 for _ in range(calls))
    return times + Figures(failures=failures)
