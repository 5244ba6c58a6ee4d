"""A cloud's front, which comes without a key: it calls models, and nothing else."""

import pytest

from modelyard.core.errors import Denied, Unauthenticated
from modelyard.core.identity import Certificate, Peer, Verb
from modelyard.core.rules import Rules
from modelyard.gateway.access import FRONT, KeyedAccess

HERE = Peer(address="10.0.0.1")


def test_the_front_calls_and_does_nothing_else() -> None:
    """Its permits are kept as anybody's are, and end with the rules."""
    access = KeyedAccess(Rules(), unnamed=FRONT)
    caller = access.identify({}, HERE)
    assert access.identify({b"host": b"h"}, HERE).permit("m") is caller.permit("m")
    for verb in (Verb.READ, Verb.DEPLOY, Verb.AUDIT, Verb.ADMIN):
        with pytest.raises(Denied):
            caller.check(verb)
    kept = caller.permit("m")
    access.replace(Rules(sequence=1))
    assert access.identify({}, HERE).permit("m") is not kept


@pytest.mark.parametrize(
    ("headers", "peer"),
    [
        ({b"authorization": b"Bearer wrong"}, HERE),
        ({b"x-api-key": b""}, HERE),
        ({}, Peer(address="10.0.0.1", certificate=Certificate(subject="CN=x", sha256="ab" * 32))),
    ],
)
def test_whoever_says_who_it_is_must_be_known(headers: dict[bytes, bytes], peer: Peer) -> None:
    """A credential that is not good never falls back to the front's."""
    with pytest.raises(Unauthenticated):
        KeyedAccess(Rules(), unnamed=FRONT).identify(headers, peer)


def test_without_a_front_nobody_is_unnamed() -> None:
    """As on every server outside a cloud's container."""
    with pytest.raises(Unauthenticated):
        KeyedAccess(Rules()).identify({}, HERE)
