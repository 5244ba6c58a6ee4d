"""What a node goes by while its registry does not answer: only what it has sealed itself."""

import datetime
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from modelyard.core.errors import Invalid
from modelyard.core.identity import Role, Scope, Verb
from modelyard.core.limits import Limit, LimitKind, Period
from modelyard.core.policy import Capture, Policy
from modelyard.core.route import Options, Route, Shadow, Target
from modelyard.core.rules import IdentityMapping, Key, Rules, Tenant
from modelyard.core.usage import Tariff, Unit
from modelyard.gateway import snapshot as module
from modelyard.gateway.snapshot import ServedVersion, Snapshot, seal, unseal

NOW = datetime.datetime(2026, 5, 3, tzinfo=datetime.UTC).timestamp()
SCOPE = Scope(models=("a*",), verbs=frozenset({Verb.CALL, Verb.READ}))
SNAPSHOT = Snapshot(
    registry="r" * 32,
    read_at=NOW,
    rules=Rules(
        sequence=7,
        tenants={"acme": Tenant(name="acme", models=("a*", "b"))},
        keys={
            "k": Key(
                id="k",
                tenant="acme",
                name="ännchen",
                role=Role.DEPLOYER,
                scope=SCOPE,
                salt=bytes(range(16)),
                digest=bytes(range(32)),
                created_at=1.25,
                expires_at=2.5,
            )
        },
        mappings=(
            IdentityMapping(id="m", source="x", claims=(("a", "b"),), role=Role.ADMIN, scope=SCOPE),
        ),
        limits=(Limit(id="l", kind=LimitKind.QUOTA, amount=9, per=("key",), period=Period.DAY),),
        tariffs=(Tariff(models="*", unit=Unit.TOKEN, nano=3),),
        policy=Policy(require_signature=True, captures=(Capture(models="*", redact=("x",)),)),
    ),
    generation=3,
    routes=(
        Route(
            model="churn",
            generation=3,
            targets=(Target(1, 90.0), Target(2, 10.0)),
            shadow=Shadow(1),
            options=Options(queue_rows=5),
        ),
    ),
    versions=(
        ServedVersion(model="churn", number=1, digest="sha256:ab", signatures=(b"\x00\xff",)),
    ),
)
KEY = Ed25519PrivateKey.generate()
SEALED = seal(SNAPSHOT, KEY)


def opened(
    data: bytes = SEALED,
    *,
    key: Ed25519PrivateKey = KEY,
    registry: str = "r" * 32,
    age_s: float = 0,
) -> Snapshot:
    return unseal(data, key.public_key(), registry=registry, now=NOW + age_s, longest_s=100.0)


def test_what_was_sealed_comes_back_as_it_was() -> None:
    """Every part of the rules and routes, in its own type."""
    assert opened() == SNAPSHOT


@given(st.integers(0, len(SEALED) - 1), st.integers(1, 255))
def test_any_changed_byte_is_refused(place: int, by: int) -> None:
    """In the format, the signature or the content."""
    changed = bytearray(SEALED)
    changed[place] ^= by
    with pytest.raises(Invalid) as caught:
        opened(bytes(changed))
    assert caught.value.code == "bad_snapshot"


@given(st.binary(max_size=300) | st.integers(0, len(SEALED) - 1).map(lambda end: SEALED[:end]))
def test_what_is_no_snapshot_is_refused_and_nothing_else(data: bytes) -> None:
    """Cut off, empty, or anything."""
    with pytest.raises(Invalid):
        opened(data)


def test_what_others_have_sealed_is_refused() -> None:
    """Another node's, and that of another registry."""
    with pytest.raises(Invalid, match="not what this node has signed"):
        opened(key=Ed25519PrivateKey.generate())
    with pytest.raises(Invalid, match="another registry"):
        opened(registry="q" * 32)


def test_an_old_one_is_refused() -> None:
    """And one from the future, but for a clock that was put back a little."""
    assert opened(age_s=100.0) == SNAPSHOT
    assert opened(age_s=-60.0) == SNAPSHOT
    for age_s in (100.1, -60.1, 1e9):
        with pytest.raises(Invalid):
            opened(age_s=age_s)
    with pytest.raises(Invalid):
        opened(seal(replace(SNAPSHOT, read_at=float("inf")), KEY))


def test_one_that_is_too_large_is_not_sealed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its bound is the reader's too."""
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    with pytest.raises(Invalid, match="larger than"):
        seal(SNAPSHOT, KEY)
