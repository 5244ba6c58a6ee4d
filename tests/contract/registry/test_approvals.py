"""Four eyes: what one person asks for, another approves, on every database."""

import dataclasses
import datetime
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from modelyard.core.errors import ApprovalNeeded, Conflict, Denied, NotFound
from modelyard.core.identity import Actor, Role
from modelyard.core.policy import Policy
from modelyard.core.rollout import Plan
from modelyard.core.route import Target
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.testing.registry import publish

ANN = Actor(name="ann", key="k-ann", tenant="acme", source="10.0.0.1", request_id="r-1")
BOB = Actor(name="bob", key="k-bob", tenant="acme", source="10.0.0.2", request_id="r-2")


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    """Three versions of `churn`, the first deployed before changes needed a second person."""
    with Registry.open(database_url, LocalBlobStore(tmp_path / "home")) as made:
        for passed in (True, True, False):
            publish(made, tmp_path, passed=passed)
        made.deploy("churn", 1, actor=ANN)
        made.policies.set(Policy(four_eyes=("chu*",)), actor="root")
        yield made


def ask(registry: Registry, number: int = 2, actor: Actor = ANN, reason: str = "better") -> int:
    """Ask for a version; returns the request's number."""
    with pytest.raises(ApprovalNeeded, match="need a second person") as caught:
        registry.deploy("churn", number, actor=actor, reason=reason, force=number == 3)
    assert caught.value.code == "approval_needed"
    return caught.value.approval


def test_a_change_waits_for_a_second_person(registry: Registry) -> None:
    """Nothing changes until then; then it is exactly what was asked for, with both names."""
    number = ask(registry)
    assert registry.routes()[0].targets == (Target(1),)
    [waiting] = registry.approvals.list(state="pending")
    assert (waiting.id, waiting.model, waiting.asked_by) == (number, "churn", ANN)
    done = registry.approvals.approve(number, actor=BOB, reason="looks good")
    [route] = registry.routes()
    assert (route.targets, done.state, done.result) == ((Target(2),), "approved", route.generation)
    assert (done.decided_by, done.decided_reason) == (BOB, "looks good")
    approve, deploy, asked = registry.audit(model="churn", limit=3)
    assert (asked.action, asked.kind, asked.actor) == ("ask", "approval", "ann")
    assert (deploy.action, deploy.actor, deploy.reason) == ("deploy", "ann", "better")
    assert deploy.details["approved_by"] == {"name": "bob", "key": "k-bob", "tenant": "acme"}
    assert (approve.action, approve.actor, approve.subject) == ("approve", "bob", str(number))
    assert approve.details["asked_by"]["key"] == "k-ann"
    assert approve.request_id == "r-2"


@pytest.mark.parametrize("verb", ["canary", "shadow", "forced", "roll_out", "promote"])
def test_whatever_brings_a_version_to_calls_needs_it(registry: Registry, verb: str) -> None:
    """And is carried out as it was asked for, whichever it is."""
    if verb == "promote":
        registry.policies.set(Policy(), actor="root")
        registry.deploy("churn", 2, canary=10.0, actor=ANN)
        registry.policies.set(Policy(four_eyes=("churn",)), actor="root")
    plan = Plan(steps=(10.0, 100.0), every_s=60.0)
    verbs: dict[str, Callable[[], object]] = {
        "canary": lambda: registry.deploy(
            "churn", 2, canary=12.5, sticky="x-user", options={"lanes": 2}, actor=ANN
        ),
        "shadow": lambda: registry.deploy("churn", 2, shadow=50.0, actor=ANN),
        "forced": lambda: registry.deploy("churn", 3, force=True, actor=ANN),
        "roll_out": lambda: registry.roll_out("churn", 2, plan=plan, actor=ANN),
        "promote": lambda: registry.promote("churn", actor=ANN),
    }
    before = registry.routes()
    with pytest.raises(ApprovalNeeded) as caught:
        verbs[verb]()
    assert registry.routes() == before
    registry.approvals.approve(caught.value.approval, actor=BOB)
    [route] = registry.routes()
    assert {
        "canary": (Target(1, 87.5), Target(2, 12.5)),
        "shadow": (Target(1),),
        "forced": (Target(3),),
        "roll_out": (Target(1, 90.0), Target(2, 10.0)),
        "promote": (Target(2),),
    }[verb] == route.targets
    if verb == "canary":
        assert (route.sticky, route.options.lanes) == ("x-user", 2)
    if verb == "forced":
        assert "deploy_forced" in {row.action for row in registry.audit()}
    assert len(registry.rollouts.running()) == (verb == "roll_out")


def test_the_way_out_needs_nobody(registry: Registry) -> None:
    """A rollback, taking the route away, and options alone are done at once, and audited."""
    registry.approvals.approve(ask(registry), actor=BOB)
    assert registry.rollback("churn", actor=ANN, reason="fire").targets == (Target(1),)
    assert registry.audit()[0].reason == "fire"
    assert registry.deploy("churn", options={"lanes": 1}, actor=ANN).options.lanes == 1
    registry.undeploy("churn", actor=ANN)
    assert registry.routes() == []


def test_other_models_need_nobody(registry: Registry, tmp_path: Path) -> None:
    """Only those that the policy names."""
    publish(registry, tmp_path, name="iris")
    assert registry.deploy("iris", actor=ANN).number == 1


@pytest.mark.parametrize(
    "same",
    [
        ANN,
        dataclasses.replace(ANN, name="anna"),
        dataclasses.replace(ANN, key="k-other"),
        Actor(name="ann"),
        Actor(name="ann", key="local:ann", source="local"),
    ],
)
def test_the_same_person_may_not_approve(registry: Registry, same: Actor) -> None:
    """By their key under another name, by their name under another key, or on the machine."""
    number = ask(registry)
    with pytest.raises(Denied) as caught:
        registry.approvals.approve(number, actor=same)
    assert caught.value.code == "same_person"
    assert registry.routes()[0].targets == (Target(1),)


def test_a_name_in_another_tenant_is_another_person(registry: Registry) -> None:
    """People of two tenants may be called the same."""
    number = ask(registry)
    other = Actor(name="ann", key="k-x", tenant="globex")
    assert registry.approvals.approve(number, actor=other).state == "approved"


def test_a_rotated_key_is_the_same_person(registry: Registry) -> None:
    """Though it was given another name."""
    made = registry.keys.create(name="carl", role=Role.DEPLOYER, actor="root").record
    carl = Actor(name="carl", key=made.id, tenant=made.tenant)
    number = ask(registry, actor=carl)
    rotated = registry.keys.rotate(made.id, overlap_s=60.0, actor="root").record
    with pytest.raises(Denied):
        registry.approvals.approve(
            number, actor=Actor(name="karl", key=rotated.id, tenant=rotated.tenant)
        )


def test_a_route_that_changed_since_makes_a_request_stale(registry: Registry) -> None:
    """Approved is the very change of the very route, or nothing."""
    first, second = ask(registry, 2), ask(registry, 3)
    registry.approvals.approve(second, actor=BOB)
    assert registry.approvals.get(first).state == "stale"
    with pytest.raises(Conflict) as caught:
        registry.approvals.approve(first, actor=BOB)
    assert caught.value.code == "approval_stale"
    registry.undeploy("churn", actor=BOB)
    number = ask(registry)
    registry.rollback("churn", actor=BOB)
    registry.undeploy("churn", actor=BOB)
    with pytest.raises(Conflict):
        registry.approvals.approve(number, actor=BOB)


def test_a_request_is_decided_once(registry: Registry) -> None:
    """What was approved or rejected stays so; rejecting needs no second person."""
    number = ask(registry)
    assert registry.approvals.reject(number, actor=ANN, reason="mistake").state == "rejected"
    for decide in (registry.approvals.approve, registry.approvals.reject):
        with pytest.raises(Conflict) as caught:
            decide(number, actor=BOB, reason="")
        assert caught.value.code == "approval_decided"
    assert registry.audit()[0].action == "reject"
    with pytest.raises(NotFound):
        registry.approvals.get(99)


def test_a_request_expires(registry: Registry, database_url: str) -> None:
    """After the time that the policy gives it."""
    registry.policies.set(Policy(four_eyes=("churn",), approval_s=3600.0), actor="root")
    number = ask(registry)
    found = registry.approvals.get(number)
    assert found.expires - found.asked == datetime.timedelta(hours=1)
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE approvals SET expires = '2026-01-01 00:00:00.000000'"))
    engine.dispose()
    assert registry.approvals.get(number).state == "expired"
    with pytest.raises(Conflict) as caught:
        registry.approvals.approve(number, actor=BOB)
    assert caught.value.code == "approval_expired"
    assert ask(registry) != number


def test_asking_twice_is_one_request(registry: Registry) -> None:
    """Also where somebody else asks for the same; another change is another request."""
    number = ask(registry)
    assert ask(registry) == number
    assert ask(registry, actor=BOB) == number
    assert ask(registry, 3) != number
    assert len(registry.approvals.list(model="churn")) == 2
    assert registry.approvals.list(model="iris") == []


def test_a_policy_that_came_since_is_kept(registry: Registry) -> None:
    """What may not be served any more is not, whoever approves."""
    number = ask(registry)
    registry.policies.set(Policy(four_eyes=("churn",), frameworks=("other",)), actor="root")
    with pytest.raises(Denied):
        registry.approvals.approve(number, actor=BOB)
    assert registry.routes()[0].targets == (Target(1),)


def test_two_who_approve_at_once_make_one_change(registry: Registry) -> None:
    """The second hears that it was done."""
    from concurrent.futures import ThreadPoolExecutor

    number = ask(registry)

    def approve(who: Actor) -> str:
        try:
            return registry.approvals.approve(number, actor=who).state
        except Conflict as error:
            return error.code

    carl = Actor(name="carl", key="k-carl", tenant="acme")
    with ThreadPoolExecutor(2) as pool:
        told = sorted(pool.map(approve, (BOB, carl)))
    assert told == ["approval_decided", "approved"]
    assert [row.action for row in registry.audit()].count("deploy") == 2


def test_a_request_within_a_larger_transaction_is_kept(registry: Registry) -> None:
    """Whoever hears that it waits finds it, though the transaction ended with an error."""
    with pytest.raises(ApprovalNeeded) as caught, registry.repeats.together():
        registry.deploy("churn", 2, actor=ANN)
    assert registry.approvals.get(caught.value.approval).state == "pending"
