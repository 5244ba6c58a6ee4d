"""Calls, logins and refusals become audit rows, and chains are signed, on every database."""

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from modelyard.core.call import Outcome
from modelyard.core.identity import Principal, Role
from modelyard.core.policy import Policy
from modelyard.core.usage import Subject, Unit
from modelyard.gateway.metering.batch import Batch
from modelyard.gateway.metering.layout import EVENT, OUTCOMES
from modelyard.gateway.node_key import node_key
from modelyard.gateway.visits import Visits
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.keeper import AuditKeeper
from modelyard.registry.registry import Registry

_AT_NS = 1_790_000_000_123_456_000


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    """A registry whose policy audits calls to `fraud` models."""
    with Registry.open(database_url, LocalBlobStore(tmp_path / "home")) as made:
        made.policies.set(Policy(audit_calls=("fraud*",)), actor="root")
        yield made


def batch(key: str, first: int = 0) -> Batch:
    """Three calls, two of them to a model whose calls are audited."""
    events = np.zeros(3, EVENT)
    for index, (subject, outcome) in enumerate(
        ((1, Outcome.OK), (2, Outcome.OK), (1, Outcome.TIMEOUT))
    ):
        event = events[index]
        event["number"], event["subject"], event["rows"] = first + index, subject, 4
        event["arrived_ns"], event["took_ns"] = _AT_NS, 1_500_000
        event["outcome"] = OUTCOMES.index(outcome)

    def told(model: str) -> Subject:
        return Subject(
            tenant="acme",
            key=key,
            model=model,
            version=3,
            unit=Unit.REQUEST,
            nano=0,
            currency="EUR",
        )

    return Batch(
        spool="s1",
        prefix="abcdef",
        first=first,
        places=3,
        events=events,
        subjects={1: told("fraud-eu"), 2: told("churn")},
    )


def test_calls_of_audited_models_are_in_the_audit_once(registry: Registry) -> None:
    """Who, which model and version, which call, when and how it ended; a copy that is tried again
    adds nothing."""
    made = registry.keys.create(name="scorer", actor="root").record
    taken = batch(made.id)
    for _ in range(3):
        registry.usage.copy(taken)
    rows = registry.trail.rows(kind="call")
    assert [row.subject for row in rows] == ["abcdef-2", "abcdef-0"]
    failed, answered = rows
    assert (answered.actor, answered.key, answered.tenant) == ("scorer", made.id, "acme")
    assert (answered.model, answered.number) == ("fraud-eu", 3)
    assert answered.details == {"outcome": "ok", "rows": 4, "took_us": 1500}
    assert failed.details["outcome"] == "timeout"
    assert answered.at.timestamp() == pytest.approx(_AT_NS / 1e9)
    assert registry.trail.verify().is_whole


def test_without_such_a_policy_no_call_is_audited(registry: Registry) -> None:
    """The rows that there are tell of changes only."""
    registry.policies.set(Policy(), actor="root")
    registry.usage.copy(batch("k1"))
    assert registry.trail.rows(kind="call") == []


def test_a_keeper_writes_down_visits_and_signs(registry: Registry, tmp_path: Path) -> None:
    """While the server runs, and the rest when it stops."""
    key = node_key(tmp_path)
    visits = Visits()
    signed = threading.Event()

    def ask() -> Ed25519PrivateKey:
        signed.set()
        return key

    keeper = AuditKeeper(registry.trail, ask, visits, every_s=0.0, look_s=0.01)
    keeper.start()
    assert signed.wait(30.0)
    visits.enter(Principal(tenant="t", key="k", name="root", role=Role.ADMIN), "10.0.0.1")
    for _ in range(3):
        visits.refuse("10.0.0.9")
    keeper.stop()
    refused, login = registry.trail.rows(kind="login")
    assert (login.action, login.actor, login.source) == ("login", "root", "10.0.0.1")
    assert (refused.action, refused.source, refused.details) == (
        "refused",
        "10.0.0.9",
        {"count": 3},
    )
    verdict = registry.trail.verify()
    assert verdict.is_whole
    assert all(chain.proven == chain.last for chain in verdict.chains)


def test_a_keeper_outlives_a_database_that_is_down(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It says so once, and what it has to write down is written when the database is back."""
    from modelyard.core.errors import Unavailable
    from modelyard.registry.auditing import Entry

    looked = threading.Semaphore(0)
    is_back = threading.Event()
    trail = registry.trail

    class Flaky(type(trail)):  # type: ignore[misc] # a subclass of what is there
        """Does not answer at first."""

        def note(self, entries: list[Entry]) -> None:
            looked.release()
            if not is_back.is_set():
                raise Unavailable("registry_unavailable", "the registry does not answer")
            super().note(entries)

    visits = Visits()
    visits.enter(Principal(tenant="t", key="k", name="root", role=Role.ADMIN), "10.0.0.1")
    flaky = Flaky(trail._database)
    keeper = AuditKeeper(flaky, lambda: node_key(tmp_path), visits, look_s=0.01)
    keeper.start()
    for _ in range(3):
        assert looked.acquire(timeout=30.0)
    is_back.set()
    keeper.stop()
    assert [row.action for row in registry.trail.rows(kind="login")] == ["login"]
    assert len([each for each in caplog.records if "audit" in each.message]) == 1
