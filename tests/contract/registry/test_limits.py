"""Limits and the leases of quotas, on every database."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select, update

from modelyard.core.errors import Invalid, NotFound
from modelyard.core.leases import Ask
from modelyard.core.limits import MONEY
from modelyard.registry.access import read_rules
from modelyard.registry.database import Database
from modelyard.registry.leases import LeaseBook
from modelyard.registry.limits import LimitBook
from modelyard.registry.tables import audit, quota_leases

QUOTA = 1000


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    yield database
    database.close()


@pytest.fixture
def leases(database: Database) -> LeaseBook:
    return LeaseBook(database)


@pytest.fixture
def limits(database: Database) -> LimitBook:
    return LimitBook(database)


def ask(**what: object) -> Ask:
    return Ask(**{"limit": "q", "words": "q", "period": "total", "quota": QUOTA, **what})  # type: ignore[arg-type]


def test_nodes_together_never_get_more_than_the_quota(leases: LeaseBook) -> None:
    """Eight at once, each in a thread of its own, until nobody is given any more."""

    def draw(node: str) -> int:
        kept = 0
        while True:
            (lease,) = leases.exchange(node, [ask(kept=kept, spent=kept, least=40)])
            if lease.granted == kept:
                return kept
            kept = lease.granted

    with ThreadPoolExecutor(8) as threads:
        granted = list(threads.map(draw, [f"node-{number}" for number in range(8)]))
    assert sum(granted) == QUOTA


def test_an_exchange_that_was_never_heard_of_does_no_harm(leases: LeaseBook) -> None:
    """What was granted by it is free again when its node says what it has."""
    (lost,) = leases.exchange("one", [ask(least=100, is_new=True)])
    assert lost.granted == 100
    (lease,) = leases.exchange("one", [ask(least=10, is_new=True)])
    assert (lease.granted, lease.spent) == (10, 0)
    (lost,) = leases.exchange("one", [ask(kept=10, spent=4, least=500)])
    (lease,) = leases.exchange("one", [ask(kept=10, spent=10, least=1)])
    assert (lease.granted, lease.free) == (11, QUOTA - 11)


def test_a_share_leaves_some_for_others(leases: LeaseBook) -> None:
    """Who asks for all gets at most half; what waits is given whatever is there."""
    (lease,) = leases.exchange("one", [ask(more=QUOTA, is_new=True)])
    assert lease.granted == QUOTA // 2
    (lease,) = leases.exchange("two", [ask(least=QUOTA // 2, more=QUOTA, is_new=True)])
    assert lease.granted == QUOTA // 2


def test_who_lacks_is_owed_what_others_do_not_need(leases: LeaseBook) -> None:
    """Until they have answered; then what they gave back is there."""
    leases.exchange("one", [ask(least=QUOTA, is_new=True)])
    (lease,) = leases.exchange("two", [ask(least=10, is_new=True)])
    assert (lease.granted, lease.is_owed) == (0, True)
    (seen,) = leases.held("one")
    assert seen.wanted == lease.wanted > seen.answered
    leases.exchange("one", [ask(kept=600, spent=400, answered=seen.wanted)])
    (lease,) = leases.exchange("two", [ask(least=401)])
    assert (lease.granted, lease.is_owed) == (400, False)


def test_a_debt_is_nobodys_to_give(leases: LeaseBook) -> None:
    """What a node has spent beyond its lease is taken off what there is."""
    leases.exchange("one", [ask(least=100, is_new=True)])
    (lease,) = leases.exchange("one", [ask(kept=1200, spent=1200)])
    assert lease.granted == QUOTA
    (lease,) = leases.exchange("two", [ask(least=1, is_new=True)])
    assert lease.granted == 0


def test_a_lease_of_a_gone_node_counts_as_spent(
    database: Database, leases: LeaseBook, limits: LimitBook
) -> None:
    """Nobody waits for it, nobody gets it, and it is shown as lost until its node is back."""
    limit = limits.set("quota", QUOTA, actor="test")
    words = {"limit": limit.id, "words": limit.id}
    leases.exchange("one", [ask(least=QUOTA, is_new=True, **words)])
    with database.write() as connection:
        expired = select(quota_leases.c.heard).scalar_subquery()
        connection.execute(update(quota_leases).values(expires=expired))
    (lease,) = leases.exchange("two", [ask(least=1, is_new=True, **words)])
    assert (lease.granted, lease.is_owed) == (0, False)
    (standing,) = limits.standings()
    assert (standing.spent, standing.leased, standing.lost, standing.left) == (0, 1000, 1000, 0)
    leases.exchange("one", [ask(kept=5, spent=5, **words)])
    (standing,) = limits.standings()
    assert (standing.spent, standing.leased, standing.lost, standing.left) == (5, 0, 0, 995)


def test_nodes_that_beat_are_alive(leases: LeaseBook) -> None:
    """Until they leave."""
    assert [leases.beat("one"), leases.beat("two"), leases.beat("one")] == [1, 2, 2]
    leases.leave("two")
    assert leases.beat("one") == 1


def test_the_same_limit_is_set_again(database: Database, limits: LimitBook) -> None:
    """Its amount is another, its id is not; every change is audited and moves the sequence."""
    first = limits.set("quota", 5, period="day", per=["model", "key"], actor="anna")
    with database.read() as connection:
        rules = read_rules(connection)
    assert rules is not None
    assert rules.limits == (first,)
    assert first.per == ("key", "model")
    again = limits.set("quota", 7, period="day", per=["key", "model"], actor="bert", reason="more")
    other = limits.set("quota", 7, period="month", per=["key", "model"], actor="bert")
    assert again.id == first.id != other.id
    assert {each.id: each.amount for each in limits.list()} == {first.id: 7, other.id: 7}
    limits.remove(first.id, actor="anna")
    with pytest.raises(NotFound):
        limits.remove(first.id, actor="anna")
    with database.read() as connection:
        rows = connection.execute(select(audit.c.actor, audit.c.action, audit.c.subject)).all()
        assert read_rules(connection, rules.sequence + 3) is None
    assert [tuple(row) for row in rows] == [
        ("anna", "limit_set", first.id),
        ("bert", "limit_set", first.id),
        ("bert", "limit_set", other.id),
        ("anna", "limit_removed", first.id),
    ]


@pytest.mark.parametrize(
    ("field", "what"),
    [
        ("kind", {"kind": "wish"}),
        ("amount", {"amount": -1}),
        ("amount", {"amount": 2**60}),
        ("unit", {"unit": "smile"}),
        ("unit", {"kind": "rate", "unit": MONEY}),
        ("unit", {"kind": "concurrency", "unit": "row"}),
        ("per", {"per": ["moon"]}),
        ("period", {"kind": "rate", "period": "day"}),
        ("burst", {"burst": 5}),
        ("models", {"models": "a b"}),
    ],
)
def test_what_is_no_limit_is_refused(
    limits: LimitBook, field: str, what: dict[str, object]
) -> None:
    """With the field that is wrong."""
    with pytest.raises(Invalid) as caught:
        limits.set(**{"kind": "quota", "amount": 1, "actor": "test", **what})  # type: ignore[arg-type]
    assert caught.value.field == field


def test_a_limit_is_for_a_tenant_that_is_there(limits: LimitBook) -> None:
    """Nobody limits a misspelt one."""
    with pytest.raises(NotFound):
        limits.set("quota", 1, tenant="nobody", actor="test")
