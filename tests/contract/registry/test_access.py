"""Tenants, keys and mappings, and the rules that a gate reads, on every database."""

import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import BaseContext
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from modelyard.core.errors import Conflict, Invalid, ModelyardError, NotFound
from modelyard.core.identity import UNKNOWN_PEER, Actor, Role, Verb
from modelyard.core.records import IssuedKey
from modelyard.core.rules import Rules
from modelyard.gateway.access import KeyedAccess
from modelyard.gateway.credentials import read_key
from modelyard.registry.blobs import LocalBlobStore
from modelyard.registry.registry import Registry
from modelyard.testing.processes import make_first_key_together


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Iterator[Registry]:
    with Registry.open(database_url, LocalBlobStore(tmp_path / "home")) as registry:
        yield registry


def rules_of(registry: Registry) -> Rules:
    rules = registry.rules()
    assert rules is not None
    return rules


def lets_in(registry: Registry, issued: IssuedKey) -> bool:
    try:
        caller = KeyedAccess(rules_of(registry)).identify(
            {b"x-api-key": issued.text.encode()}, UNKNOWN_PEER
        )
    except ModelyardError:
        return False
    return caller.principal.key == issued.record.id


def code_of(act: Callable[[], object]) -> str:
    with pytest.raises(ModelyardError) as caught:
        act()
    return caught.value.code


def test_a_new_registry_has_one_tenant_and_no_keys(registry: Registry) -> None:
    """And its rules say so; whoever knows their sequence hears that nothing has changed."""
    rules = rules_of(registry)
    assert list(rules.tenants) == ["default"]
    assert rules.keys == {}
    assert (rules.mappings, rules.limits, rules.tariffs) == ((), (), ())
    assert registry.rules(rules.sequence) is None
    assert registry.keys.list() == []


def test_a_key_is_in_force_when_it_was_made(registry: Registry) -> None:
    """As it was asked for, with its moment of expiry; the database has no secret."""
    registry.tenants.create("acme", models=["churn*"], actor="ann")
    issued = registry.keys.create(
        name="ci",
        tenant="acme",
        role="deployer",
        models=["churn-*", "iris"],
        verbs=["call", "deploy"],
        lifetime_s=60,
        actor="ann",
    )
    key = rules_of(registry).keys[issued.record.id]
    assert (key.tenant, key.name, key.role) == ("acme", "ci", Role.DEPLOYER)
    assert key.scope.models == ("churn-*", "iris")
    assert key.scope.verbs == {Verb.CALL, Verb.DEPLOY}
    assert key.expires_at == pytest.approx(time.time() + 60, abs=10)
    assert registry.keys.get(key.id) == issued.record
    assert registry.keys.list(tenant="default") == []
    assert lets_in(registry, issued)


def test_the_database_has_no_secret(registry: Registry, database_url: str, tmp_path: Path) -> None:
    """No column of any table has the text of a key or its bytes; the same for its audit row."""
    issued = registry.keys.create(name="ci", actor="ann")
    registry.keys.rotate(issued.record.id, overlap_s=60, actor="ann")
    secret = read_key(issued.text.encode()).secret
    engine = create_engine(database_url)
    with engine.connect() as connection:
        for table in ("keys", "audit"):
            rows = connection.execute(text(f"SELECT * FROM {table}")).all()
            assert rows
            for row in rows:
                assert issued.text[16:] not in str(row)
                assert not any(secret in bytes(cell) for cell in row if isinstance(cell, bytes))
    engine.dispose()
    key = rules_of(registry).keys[issued.record.id]
    for entry in registry.audit():
        assert key.digest.hex() not in str(entry)
        assert "digest" not in str(entry)


def test_a_revoked_key_is_dead_for_good(registry: Registry) -> None:
    """Once, whoever does it again."""
    issued = registry.keys.create(name="ci", actor="ann")
    assert lets_in(registry, issued)
    before = rules_of(registry).sequence
    revoked = registry.keys.revoke(issued.record.id, actor="bob", reason="it leaked")
    assert revoked.state == "revoked"
    assert not lets_in(registry, issued)
    after = rules_of(registry).sequence
    assert after > before
    assert registry.keys.revoke(issued.record.id, actor="eve") == revoked
    assert registry.rules(after) is None
    newest = registry.audit(limit=1)[0]
    assert (newest.action, newest.actor, newest.reason) == ("key_revoked", "bob", "it leaked")
    assert code_of(lambda: registry.keys.rotate(issued.record.id, actor="ann")) == "dead_key"
    assert code_of(lambda: registry.keys.revoke("nothing", actor="ann")) == "unknown_key"


def test_a_rotated_key_goes_on_until_the_overlap_ends(registry: Registry) -> None:
    """The new one is like it and lives as long as it was to live; both are good meanwhile."""
    old = registry.keys.create(
        name="ci", models=["churn"], verbs=["call"], lifetime_s=1000, actor="ann"
    )
    new = registry.keys.rotate(old.record.id, overlap_s=100, actor="ann")
    assert lets_in(registry, old)
    assert lets_in(registry, new)
    assert new.record.replaces == old.record.id
    assert (new.record.models, new.record.verbs) == (old.record.models, old.record.verbs)
    assert new.record.expires is not None
    assert (new.record.expires - new.record.created).total_seconds() == 1000
    ending = registry.keys.get(old.record.id).expires
    assert ending is not None
    assert ending.timestamp() == pytest.approx(time.time() + 100, abs=10)
    assert code_of(lambda: registry.keys.rotate(old.record.id, actor="ann")) == "key_rotated"
    newest = registry.keys.rotate(new.record.id, actor="ann")
    assert lets_in(registry, newest)
    assert not lets_in(registry, new)
    assert registry.keys.get(new.record.id).state == "expired"


def test_an_overlap_never_lengthens_a_life(registry: Registry) -> None:
    """A key that ends before the overlap ends when it was to end."""
    old = registry.keys.create(name="ci", lifetime_s=10, actor="ann")
    registry.keys.rotate(old.record.id, overlap_s=1000, actor="ann")
    assert registry.keys.get(old.record.id).expires == old.record.expires


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"name": ""}, "bad_name"),
        ({"name": "x" * 129}, "bad_name"),
        ({"name": "a\nb"}, "bad_name"),
        ({"role": "king"}, "bad_role"),
        ({"models": []}, "bad_pattern"),
        ({"models": ["a b"]}, "bad_pattern"),
        ({"models": [""]}, "bad_pattern"),
        ({"models": ["*" * 129]}, "bad_pattern"),
        ({"verbs": []}, "bad_verbs"),
        ({"verbs": ["deploy"]}, "bad_verbs"),
        ({"verbs": ["fly"]}, "bad_verbs"),
        ({"lifetime_s": 0}, "bad_lifetime"),
        ({"lifetime_s": -1.0}, "bad_lifetime"),
        ({"lifetime_s": float("nan")}, "bad_lifetime"),
        ({"lifetime_s": 1e12}, "bad_lifetime"),
        ({"tenant": "nobody"}, "unknown_tenant"),
    ],
)
def test_a_key_that_makes_no_sense_is_not_made(
    registry: Registry, given: dict[str, object], code: str
) -> None:
    """The field is named, and nothing is written."""
    before = rules_of(registry).sequence
    fields = {"name": "ci", "actor": "ann", **given}
    with pytest.raises((Invalid, NotFound)) as caught:
        registry.keys.create(**fields)  # type: ignore[arg-type]
    assert caught.value.code == code
    assert caught.value.field is not None
    assert rules_of(registry).sequence == before
    assert registry.keys.list() == []


def test_one_first_key_is_made(registry: Registry) -> None:
    """Of an administrator, and never again, even where it is revoked."""
    issued = registry.keys.create_first(actor="serve")
    assert issued is not None
    assert (issued.record.role, issued.record.name) == (Role.ADMIN, "first")
    assert registry.keys.create_first(actor="serve") is None
    registry.keys.revoke(issued.record.id, actor="ann")
    assert registry.keys.create_first(actor="serve") is None


def test_servers_that_start_at_once_make_one_first_key(
    database_url: str, processes: BaseContext, tmp_path: Path
) -> None:
    """On a home that is as fresh as they are."""
    home = tmp_path / "home"
    barrier = processes.Barrier(4)
    running = [
        processes.Process(target=make_first_key_together, args=(barrier, database_url, home))
        for _ in range(4)
    ]
    for process in running:
        process.start()
    for process in running:
        process.join(timeout=60)
    assert [process.exitcode for process in running] == [0] * 4
    with Registry.open(database_url, LocalBlobStore(home)) as registry:
        (only,) = registry.keys.list()
        assert only.role == Role.ADMIN


def test_tenants_come_change_and_go(registry: Registry) -> None:
    """One that has good keys stays; one that was removed lets nobody in, and may come again."""
    tenants = registry.tenants
    assert tenants.create("acme", models=["a*"], actor="ann").models == ("a*",)
    assert code_of(lambda: tenants.create("acme", actor="ann")) == "tenant_exists"
    assert tenants.set("acme", models=["b*"], actor="ann").models == ("b*",)
    assert [each.name for each in tenants.list()] == ["acme", "default"]
    issued = registry.keys.create(name="ci", tenant="acme", actor="ann")
    assert code_of(lambda: tenants.remove("acme", actor="ann")) == "tenant_in_use"
    registry.keys.revoke(issued.record.id, actor="ann")
    tenants.remove("acme", actor="ann")
    assert list(rules_of(registry).tenants) == ["default"]
    for act in (
        lambda: tenants.get("acme"),
        lambda: tenants.set("acme", models=["*"], actor="ann"),
        lambda: tenants.remove("acme", actor="ann"),
        lambda: registry.keys.create(name="ci", tenant="acme", actor="ann"),
    ):
        assert code_of(act) == "unknown_tenant"
    tenants.create("acme", actor="ann")
    assert tenants.get("acme").models == ("*",)
    assert code_of(lambda: tenants.remove("default", actor="ann")) == "default_tenant"
    assert code_of(lambda: tenants.create("no name", actor="ann")) == "bad_name"


def test_a_change_that_changes_nothing_is_none(registry: Registry) -> None:
    """It is not audited, and nobody reads the rules again."""
    registry.tenants.create("acme", models=["a*"], actor="ann")
    before = rules_of(registry).sequence, len(registry.audit())
    registry.tenants.set("acme", models=["a*"], actor="ann")
    assert (rules_of(registry).sequence, len(registry.audit())) == before


def test_mappings_come_and_go(registry: Registry) -> None:
    """In the order in which they were made, as they were asked for."""
    first = registry.mappings.add(
        source="https://issuer.example",
        claims=[("groups", "ml"), ("groups", "ops")],
        role="deployer",
        models=["churn*"],
        tenant_claim="org",
        actor="ann",
    )
    second = registry.mappings.add(
        source="certificate", claims=[("subject", "CN=x")], tenant="default", actor="ann"
    )
    assert registry.mappings.list() == [first, second]
    assert rules_of(registry).mappings == (first, second)
    registry.mappings.remove(first.id, actor="ann")
    assert rules_of(registry).mappings == (second,)
    assert code_of(lambda: registry.mappings.remove(first.id, actor="ann")) == "unknown_mapping"


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"source": "somebody"}, "bad_source"),
        ({"source": "file:///etc/passwd"}, "bad_source"),
        ({"claims": []}, "bad_claims"),
        ({"claims": [("", "x")]}, "bad_claims"),
        ({"claims": [("sub", "")]}, "bad_claims"),
        ({"claims": [("sub", "x" * 2000)]}, "bad_claims"),
        ({"source": "certificate", "claims": [("sub", "x")]}, "bad_claims"),
        ({"tenant": ""}, "bad_tenant"),
        ({"tenant_claim": "org"}, "bad_tenant"),
        ({"tenant": "nobody"}, "unknown_tenant"),
    ],
)
def test_a_mapping_that_makes_no_sense_is_not_made(
    registry: Registry, given: dict[str, object], code: str
) -> None:
    """Least of all one that fits everybody."""
    fields = {
        "source": "https://issuer.example",
        "claims": [("sub", "x")],
        "tenant": "default",
        "actor": "ann",
        **given,
    }
    assert code_of(lambda: registry.mappings.add(**fields)) == code  # type: ignore[arg-type]
    assert registry.mappings.list() == []


def test_every_change_says_who_and_from_where(registry: Registry) -> None:
    """With what was before and after, and nothing secret."""
    actor = Actor(name="ann", key="k", tenant="acme", source="10.0.0.1", request_id="r-1")
    registry.tenants.create("acme", models=["a*"], actor=actor, reason="a customer")
    registry.tenants.set("acme", models=["b*"], actor=actor)
    row = registry.audit(limit=1)[0]
    assert (row.actor, row.key, row.source, row.request_id) == ("ann", "k", "10.0.0.1", "r-1")
    assert (row.kind, row.subject) == ("tenant", "acme")
    assert (row.before, row.after) == ({"models": ["a*"]}, {"models": ["b*"]})


def test_long_dead_keys_leave_the_rules(registry: Registry, database_url: str) -> None:
    """Unknown and dead are told the same, so they need not be kept for ever."""
    issued = registry.keys.create(name="ci", actor="ann")
    recent = registry.keys.create(name="ci", actor="ann")
    for each in (issued, recent):
        registry.keys.revoke(each.record.id, actor="ann")
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE keys SET revoked = '2020-01-01 00:00:00+00:00' WHERE id = :id"),
            {"id": issued.record.id},
        )
    engine.dispose()
    assert list(rules_of(registry).keys) == [recent.record.id]
    assert len(registry.keys.list()) == 2


def test_rules_are_read_whole(registry: Registry) -> None:
    """However many change them meanwhile, each reading is one state, and sequences grow."""
    registry.tenants.create("acme", models=["m0"], actor="ann")
    done = threading.Event()

    def change() -> None:
        for number in range(1, 30):
            registry.keys.create(name=f"k{number}", tenant="acme", actor="ann")
        done.set()

    thread = threading.Thread(target=change)
    thread.start()
    seen: list[tuple[int, int]] = []
    while not done.is_set() or not seen:
        rules = rules_of(registry)
        seen.append((rules.sequence, len(rules.keys)))
    thread.join()
    base = seen[0][0] - seen[0][1]
    assert all(sequence - count == base for sequence, count in seen)
    assert seen == sorted(seen)


def test_a_conflict_names_what_is_in_the_way(registry: Registry) -> None:
    """Of a tenant its keys, of a key its successor."""
    old = registry.keys.create(name="ci", actor="ann")
    new = registry.keys.rotate(old.record.id, overlap_s=60, actor="ann")
    with pytest.raises(Conflict, match=new.record.id):
        registry.keys.rotate(old.record.id, actor="ann")
