"""A process follows the rules of its registry."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest

from modelyard.core.errors import ModelyardError, Unavailable
from modelyard.core.identity import UNKNOWN_PEER, Role
from modelyard.core.rules import Key, Rules, Tenant
from modelyard.gateway.access import KeyedAccess
from modelyard.gateway.credentials import Credential, digest, new_secret, write_key
from modelyard.wiring import rules as module
from modelyard.wiring.rules import RulesFollower

SALT = b"s" * 16
SECRET = new_secret()
HEADERS = {b"x-api-key": write_key(Credential("a" * 12, SECRET)).encode()}
KEY = Key(
    id="a" * 12,
    tenant="acme",
    name="ann",
    role=Role.CALLER,
    salt=SALT,
    digest=digest(SALT, SECRET),
    created_at=0.0,
)
FIRST = Rules(sequence=1, tenants={"acme": Tenant(name="acme")}, keys={KEY.id: KEY})
REVOKED = replace(FIRST, sequence=2, keys={KEY.id: replace(KEY, revoked_at=1.0)})
NO_KEYS = replace(FIRST, sequence=3, keys={})


class Registry:
    """Says the rules that it was given, or does not answer."""

    def __init__(self, rules: Rules | None) -> None:
        self.present = rules
        self.hanging: threading.Event | None = None

    def rules(self, known: int | None) -> Rules | None:
        if self.hanging is not None:
            self.hanging.wait(30)
        if self.present is None:
            raise Unavailable("registry_unavailable", "the registry does not answer")
        return None if self.present.sequence == known else self.present


def told(access: KeyedAccess) -> str:
    try:
        return access.identify(HEADERS, UNKNOWN_PEER).principal.name
    except ModelyardError as error:
        return error.code


async def until(access: KeyedAccess, wanted: str) -> None:
    """Until a caller is told this; the test's own time limit bounds it."""
    while told(access) != wanted:
        await asyncio.sleep(0.001)


def follow(
    registry: Registry,
    act: Callable[[KeyedAccess, RulesFollower], Coroutine[Any, Any, None]],
    longest_s: float = 60.0,
    **more: Any,
) -> None:
    async def run() -> None:
        access = KeyedAccess()
        follower = RulesFollower(registry, access, every_s=0.01, longest_s=longest_s, **more)
        try:
            await act(access, follower)
        finally:
            if registry.hanging is not None:
                registry.hanging.set()
            await follower.stop()

    asyncio.run(run())


def test_rules_are_in_force_when_it_has_started() -> None:
    """And a change soon after it was made."""
    registry = Registry(FIRST)

    async def act(access: KeyedAccess, follower: RulesFollower) -> None:
        assert told(access) == "keys_unverified"
        await follower.start()
        assert told(access) == "ann"
        registry.present = REVOKED
        await until(access, "bad_key")

    follow(registry, act)


def test_an_outage_changes_nothing_for_known_keys() -> None:
    """Unknown ones are told that nobody can say; when it is over they are bad again."""
    registry = Registry(FIRST)
    stranger = {b"x-api-key": write_key(Credential("b" * 12, SECRET)).encode()}

    def stranger_told(access: KeyedAccess) -> str:
        with pytest.raises(ModelyardError) as caught:
            access.identify(stranger, UNKNOWN_PEER)
        return caught.value.code

    async def act(access: KeyedAccess, follower: RulesFollower) -> None:
        await follower.start()
        assert stranger_told(access) == "bad_key"
        registry.present = None
        while stranger_told(access) != "keys_unverified":
            await asyncio.sleep(0.001)
        assert told(access) == "ann"
        registry.present = REVOKED
        await until(access, "bad_key")
        assert stranger_told(access) == "bad_key"

    follow(registry, act)


def test_rules_that_nobody_confirms_lapse() -> None:
    """After the time that is set nobody is let in by them, until the registry answers again."""
    registry = Registry(FIRST)

    async def act(access: KeyedAccess, follower: RulesFollower) -> None:
        await follower.start()
        registry.present = None
        await until(access, "keys_unverified")
        registry.present = FIRST
        await until(access, "ann")

    follow(registry, act, longest_s=0.05)


def test_what_is_remembered_is_gone_by_until_the_registry_answers() -> None:
    """A process that starts in an outage knows the keys of before."""
    registry = Registry(None)

    async def act(access: KeyedAccess, follower: RulesFollower) -> None:
        await follower.start()
        assert told(access) == "ann"
        registry.present = NO_KEYS
        await until(access, "bad_key")

    follow(registry, act, remembered=lambda: (FIRST, module.time.time()))


def test_what_is_remembered_lapses_at_its_own_age() -> None:
    """It was confirmed when it was read, and not when this process began."""

    async def act(access: KeyedAccess, follower: RulesFollower) -> None:
        await follower.start()
        await until(access, "keys_unverified")

    follow(Registry(None), act, longest_s=60.0, remembered=lambda: (FIRST, module.time.time() - 61))


def test_a_start_without_registry_and_memory_ends() -> None:
    """Nobody is let in, and nobody is told that their key is bad."""

    async def act(access: KeyedAccess, follower: RulesFollower) -> None:
        await follower.start()
        assert told(access) == "keys_unverified"

    follow(Registry(None), act, longest_s=0.0)


def test_a_registry_that_hangs_keeps_no_start_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start goes on without rules, and takes them in when they come."""
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    registry = Registry(FIRST)
    registry.hanging = threading.Event()

    async def act(access: KeyedAccess, follower: RulesFollower) -> None:
        await follower.start()
        assert told(access) == "keys_unverified"
        assert registry.hanging is not None
        registry.hanging.set()
        await until(access, "ann")

    follow(registry, act)


def test_a_look_that_takes_too_long_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is an outage too: an unknown key is not called bad."""
    monkeypatch.setattr(module, "_SILENCE_S", 0.05)
    registry = Registry(NO_KEYS)

    async def act(access: KeyedAccess, follower: RulesFollower) -> None:
        await follower.start()
        assert told(access) == "bad_key"
        registry.hanging = threading.Event()
        await until(access, "keys_unverified")

    follow(registry, act)


def test_subscribers_hear_rules_before_callers_go_by_them() -> None:
    """One that fails keeps no revoked key alive, and none of the others from hearing."""
    registry = Registry(FIRST)
    heard: list[tuple[int, str]] = []

    async def act(access: KeyedAccess, follower: RulesFollower) -> None:
        def fail(rules: Rules) -> None:
            raise RuntimeError("cannot take it")

        follower.subscribe(fail)
        follower.subscribe(lambda rules: heard.append((rules.sequence, told(access))))
        await follower.start()
        registry.present = REVOKED
        await until(access, "bad_key")
        assert heard == [(1, "keys_unverified"), (2, "ann")]

    follow(registry, act)
