"""Routes are values: each change makes a new one, or says why not."""

import pytest

from modelyard.core.errors import Conflict, Invalid
from modelyard.core.route import Options, Route, Shadow, Target

ONE = Route(
    model="m", generation=7, targets=(Target(1),), sticky="x-user", options=Options(lanes=1)
)


def test_a_canary_takes_its_share_from_the_stable_version() -> None:
    """The percents add up; stickiness and options stay; growing it keeps the stable version."""
    route = ONE.with_canary(2, 10.0)
    assert route.targets == (Target(1, 90.0), Target(2, 10.0))
    assert (route.number, route.canary, route.sticky) == (1, Target(2, 10.0), "x-user")
    assert route.with_canary(2, 50.0).targets == (Target(1, 50.0), Target(2, 50.0))
    assert route.versions == (1, 2)
    assert route.promoted() == ONE.only(2)


def test_a_shadow_answers_nobody() -> None:
    """All calls stay where they are; it takes the place of a canary, and can be promoted."""
    route = ONE.with_canary(3, 10.0).with_shadow(2, 50.0)
    assert (route.targets, route.shadow) == ((Target(1),), Shadow(2, 50.0))
    assert route.versions == (1, 2)
    assert route.promoted() == ONE.only(2)
    assert route.with_canary(2, 1.0).shadow is None


@pytest.mark.parametrize("percent", [0.0, -1.0, 100.0, float("nan")])
def test_a_canary_takes_some_calls_and_not_all(percent: float) -> None:
    """Neither none nor all: that would be another verb."""
    with pytest.raises(Invalid) as caught:
        ONE.with_canary(2, percent)
    assert caught.value.field == "canary"


def test_a_second_version_is_another_one() -> None:
    """The stable version is no canary and no shadow of itself, and without either there is
    nothing to promote."""
    with pytest.raises(Conflict, match="go to version 1 already"):
        ONE.with_canary(1, 10.0)
    with pytest.raises(Conflict):
        ONE.with_shadow(1, 10.0)
    with pytest.raises(Invalid):
        ONE.with_shadow(2, 101.0)
    with pytest.raises(Conflict, match="neither a canary nor a shadow"):
        ONE.promoted()
