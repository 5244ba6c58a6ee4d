"""Which version answered when, who deployed it, who approved, and on which evidence."""

import datetime
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelyard.core.errors import ApprovalNeeded, Invalid, NotFound
from modelyard.core.history import Era
from modelyard.core.identity import Actor
from modelyard.core.policy import Policy
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.testing.registry import publish

ANN = Actor(name="ann", key="k-ann", tenant="acme", source="10.0.0.1")
BOB = Actor(name="bob", key="k-bob", tenant="acme")
_TICK = datetime.timedelta(microseconds=1)


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    """A model that was deployed, put on trial beside another with approval, and taken away."""
    with Registry.open(database_url, LocalBlobStore(tmp_path / "home")) as made:
        publish(made, tmp_path, passed=True)
        publish(made, tmp_path, passed=True)
        made.deploy("churn", 1, actor=ANN, reason="first")
        made.policies.set(Policy(four_eyes=("churn",)), actor="root")
        with pytest.raises(ApprovalNeeded) as caught:
            made.deploy("churn", 2, canary=10.0, actor=ANN, reason="trial")
        made.approvals.approve(caught.value.approval, actor=BOB)
        made.undeploy("churn", actor=BOB, reason="over")
        yield made


def eras(registry: Registry) -> tuple[Era, Era, Era]:
    """The three times."""
    first, second, third = registry.history("churn")
    return first, second, third


def test_the_line_of_events_has_no_gap(registry: Registry) -> None:
    """Each time ends where the next begins, and the last has not ended."""
    first, second, third = eras(registry)
    assert (first.until, second.until, third.until) == (second.since, third.since, None)
    assert [each.action for each in (first, second, third)] == ["deploy", "canary", "undeploy"]
    assert (first.changed_by.key, first.approved_by) == ("k-ann", None)
    assert (second.changed_by, second.approved_by) == (ANN, BOB)
    assert third.route is None
    assert third.changed_by.name == "bob"


def test_a_moment_names_versions_people_and_evidence(registry: Registry) -> None:
    """With the shares of each, up to the very microsecond of a change."""
    first, second, third = eras(registry)
    found = registry.answering("churn", third.since - _TICK)
    assert (found.generation, found.reason) == (second.generation, "trial")
    assert [(each.version, each.percent) for each in found.evidence] == [(1, 90.0), (2, 10.0)]
    [version] = [each for each in registry.versions("churn") if each.number == 2]
    evidence = found.evidence[1]
    assert (evidence.digest, evidence.published_by) == (version.digest, "ann")
    assert evidence.evaluation is not None
    assert evidence.evaluation["verdict"] == "passed"
    assert registry.answering("churn", second.since - _TICK).evidence[0].percent == 100.0
    zone = datetime.timezone(datetime.timedelta(hours=5))
    assert registry.answering("churn", first.since.astimezone(zone)).generation == first.generation


def test_when_nothing_answered_it_is_said(registry: Registry) -> None:
    """Before the first deploy, and after the route was taken away."""
    first, _, third = eras(registry)
    with pytest.raises(NotFound, match="first deployed at") as caught:
        registry.answering("churn", first.since - _TICK)
    assert caught.value.code == "not_deployed_then"
    assert registry.answering("churn", third.since).route is None
    with pytest.raises(Invalid, match="not come yet"):
        registry.answering("churn", third.since + datetime.timedelta(days=1))
    with pytest.raises(NotFound, match="no model"):
        registry.answering("iris", third.since)


def test_a_model_that_was_never_deployed_says_so(registry: Registry, tmp_path: Path) -> None:
    """It has no history yet."""
    publish(registry, tmp_path, name="iris")
    assert registry.history("iris") == []
    with pytest.raises(NotFound, match="never deployed"):
        registry.answering("iris", datetime.datetime.now(datetime.UTC))
