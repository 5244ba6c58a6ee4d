"""Whether a roll-out's guard holds: what the candidate did against what chance would explain.

A guard is looked at again and again while calls come in, and breaks only when the excess over its
bound is too great for chance: when, if the truth lay just on the bound, so many bad calls among so
many would be seen less than once in a thousand looks. A share that is over its bound by chance is
not broken; a later, larger step sees more calls and decides.
"""

import math
from typing import Final

from modelyard.core.rollout import Figures, Guard, Reading
from modelyard.serving.report import Report, bucket_end_ns

_CHANCE: Final = 0.001

_Judged = tuple[float, float, bool]
"""The candidate's value, what it was held against, and whether that is broken."""


def judge(guard: Guard, candidate: Figures, stable: Figures, least_calls: int) -> Reading:
    """What a guard says of the calls since the step began; it waits for enough of them.

    A share against a bound is judged by the exact binomial test (Clopper and Pearson, Biometrika
    26, 1934), and so is a quantile, as the share of calls that take longer than the bound (the
    quantile test of Conover, Practical Nonparametric Statistics, 3.2). Against the stable version,
    two counts are compared by the exact conditional test of Przyborowski and Wilenski (Biometrika
    31, 1940): failures; or, for a quantile, calls of the stable version above its own quantile, and
    of the candidate above that times the bound.
    """
    calls = candidate.compared if guard.compares else candidate.calls
    enough = calls >= least_calls and (not guard.is_relative or stable.calls >= least_calls)
    if not calls or (guard.is_relative and not stable.calls):
        return Reading(guard=guard.text, verdict="waits", calls=calls)
    if guard.compares:
        value, bound, broken = _judge_agreement(guard, candidate)
    elif guard.quantile is not None:
        value, bound, broken = _judge_quantile(guard, guard.quantile, candidate, stable)
    else:
        value, bound, broken = _judge_errors(guard, candidate, stable)
    return Reading(
        guard=guard.text,
        verdict="waits" if not enough else "broken" if broken else "held",
        value=value,
        bound=bound,
        calls=calls,
    )


def _judge_agreement(guard: Guard, candidate: Figures) -> _Judged:
    agreed = candidate.agreed if guard.measure == "agreement" else candidate.labels_agreed
    calls = candidate.compared
    chance = tail(calls, calls - agreed, 1.0 - guard.bound)
    return agreed / calls, guard.bound, chance < _CHANCE


def _judge_errors(guard: Guard, candidate: Figures, stable: Figures) -> _Judged:
    value = candidate.failures / candidate.calls
    if not guard.is_relative:
        chance = tail(candidate.calls, candidate.failures, guard.bound)
        return value, guard.bound, chance < _CHANCE
    chance = _excess(
        candidate.failures, candidate.calls * guard.bound, stable.failures, stable.calls
    )
    return value, guard.bound * stable.failures / stable.calls, chance < _CHANCE


def _judge_quantile(guard: Guard, quantile: float, candidate: Figures, stable: Figures) -> _Judged:
    value = _quantile_ns(candidate, quantile)
    calls = sum(candidate.buckets.values())
    if not guard.is_relative:
        chance = tail(calls, _over(candidate, guard.bound), 1.0 - quantile)
        return value, guard.bound, chance < _CHANCE
    usual = _quantile_ns(stable, quantile)
    chance = _excess(
        _over(candidate, guard.bound * usual),
        calls,
        _over(stable, usual),
        sum(stable.buckets.values()),
    )
    return value, guard.bound * usual, chance < _CHANCE


def _quantile_ns(figures: Figures, share: float) -> float:
    return Report(latency=dict(figures.buckets)).quantile_ns(share)


def _over(figures: Figures, bound_ns: float) -> int:
    """Calls that surely took longer: those of the bound's own bucket get the doubt's benefit."""
    return sum(
        count
        for bucket, count in figures.buckets.items()
        if bucket_end_ns(bucket - 1) >= bound_ns * (1.0 - 1e-9)
    )


def _excess(count: int, exposure: float, other_count: int, other_exposure: float) -> float:
    """How likely so many of all counts would fall to the first, were both rates the same."""
    return tail(count + other_count, count, exposure / (exposure + other_exposure))


def tail(trials: int, successes: int, chance: float) -> float:
    """The probability of at least that many successes; 1.0 where no more than expected."""
    if successes <= trials * chance:
        return 1.0
    if chance <= 0.0:
        return 0.0
    term = math.exp(
        math.lgamma(trials + 1)
        - math.lgamma(successes + 1)
        - math.lgamma(trials - successes + 1)
        + successes * math.log(chance)
        + (trials - successes) * math.log1p(-chance)
    )
    total, odds = term, chance / (1.0 - chance)
    # Beyond the mean each term is smaller than the last by a growing factor.
    for number in range(successes, trials):
        term *= (trials - number) / (number + 1) * odds
        total += term
        if term < total * 1e-12:
            break
    return total
