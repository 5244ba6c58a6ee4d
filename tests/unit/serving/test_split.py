"""The laws of a split: shares are kept, callers are kept, and a growing canary keeps its own."""

from itertools import islice

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from modelyard.core.datatypes import Datatype
from modelyard.core.route import Route, Target
from modelyard.core.signature import Signature, TensorSpec
from modelyard.serving.endpoint import Endpoint
from modelyard.serving.split import Split, Spread
from modelyard.testing.serving import FunctionRuntime, endpoint_of

SIGNATURE = Signature(
    (TensorSpec("x", Datatype.FP32, (-1,)),), (TensorSpec("y", Datatype.FP32, (-1,)),)
)
ENDPOINTS = {
    version: endpoint_of(
        FunctionRuntime(SIGNATURE, lambda inputs: {"y": inputs["x"]}), version=version
    )
    for version in (1, 2, 3)
}
STABLE = Route(model="m", generation=1, targets=(Target(1),), sticky="x-user")

_percents = st.floats(0.1, 99.9)
_users = st.binary(min_size=1, max_size=40)


def split(route: Route) -> Split:
    endpoints: list[Endpoint] = [ENDPOINTS[target.version] for target in route.targets]
    return Split(route.model, route.sticky, route.targets, endpoints)


@settings(max_examples=60, deadline=None)
@given(percent=_percents, calls=st.integers(1, 2000), skipped=st.integers(0, 500))
def test_any_run_of_calls_is_shared_evenly(percent: float, calls: int, skipped: int) -> None:
    """Wherever a run begins and however long it is, the canary's part of it is its share, give or
    take a handful: the discrepancy of the golden ratio's sequence grows with the logarithm."""
    spread = Spread(percent)
    for _ in range(skipped):
        spread.takes()
    taken = sum(spread.takes() for _ in range(calls))
    assert abs(taken - calls * percent / 100) <= 2.0 + np.log2(calls)


@settings(max_examples=60, deadline=None)
@given(percent=_percents, user=_users)
def test_a_caller_is_kept(percent: float, user: bytes) -> None:
    """The same value goes to the same version, in every split of that route, whoever made it."""
    route = STABLE.with_canary(2, percent)
    one, other = split(route), split(route)
    chosen = {each.choose({b"x-user": user}).version for each in (one, other) for _ in range(3)}
    assert len(chosen) == 1


@settings(max_examples=60, deadline=None)
@given(percents=st.tuples(_percents, _percents), user=_users)
def test_a_growing_canary_keeps_its_callers(percents: tuple[float, float], user: bytes) -> None:
    """Who is on the canary at the smaller share is on it at the larger."""
    small, large = (
        split(STABLE.with_canary(2, percent)).choose({b"x-user": user}).version
        for percent in sorted(percents)
    )
    assert (small, large) != (2, 1)


def test_sticky_callers_are_shared_too() -> None:
    """Of many callers about the canary's share is on it, and another canary gets others."""
    users = [{b"x-user": b"user-%d" % n} for n in range(4000)]
    on_two = {n for n, user in enumerate(users) if _choice(2, user) == 2}
    on_three = {n for n, user in enumerate(users) if _choice(3, user) == 3}
    assert 300 < len(on_two) < 500
    assert len(on_two & on_three) < 100


def _choice(canary: int, user: dict[bytes, bytes]) -> int:
    return split(STABLE.with_canary(canary, 10.0)).choose(user).version


def test_the_choice_is_the_same_for_ever() -> None:
    """Written down, so that no change of the code moves callers about."""
    route = STABLE.with_canary(2, 50.0)
    users = (b"user-%d" % n for n in range(100))
    chosen = "".join(
        str(split(route).choose({b"x-user": user}).version) for user in islice(users, 16)
    )
    assert chosen == "2211211111212211"


def test_calls_without_the_header_are_spread() -> None:
    """A missing or empty value keeps nobody anywhere."""
    chooser = split(STABLE.with_canary(2, 50.0))
    for headers in ({}, {b"x-user": b""}, {b"x-other": b"ann"}):
        chosen = [chooser.choose(headers).version for _ in range(100)]
        assert 45 <= chosen.count(2) <= 55
