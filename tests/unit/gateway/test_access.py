"""Who is calling: keys, tokens, certificates, and what each failure is told."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from modelyard.core.errors import Denied, Exhausted, Unauthenticated, Unavailable
from modelyard.core.identity import Certificate, Peer, Principal, Role, Scope, Verb
from modelyard.core.rules import IdentityMapping, Key, Rules, Tenant
from modelyard.gateway import access as module
from modelyard.gateway.access import KeyedAccess
from modelyard.gateway.credentials import Credential, digest, new_secret, write_key
from modelyard.gateway.guesses import Guesses

HERE = Peer(address="10.0.0.1")
OWNED = Peer(address="10.0.0.1", certificate=Certificate(subject="CN=x", sha256="ab" * 32))
SALT = b"s" * 16


@dataclass(frozen=True)
class Given:
    """A key as it is stored, and as its owner has it."""

    key: Key
    text: bytes

    @property
    def bearer(self) -> dict[bytes, bytes]:
        return {b"host": b"here", b"authorization": b"Bearer " + self.text}

    def changed(self, **changes: object) -> "Given":
        return replace(self, key=replace(self.key, **changes))  # type: ignore[arg-type]


def make(id: str = "aaaaaaaaaaaa", **more: object) -> Given:
    secret = new_secret()
    fields: dict[str, object] = {
        "tenant": "acme",
        "name": "ann",
        "role": Role.CALLER,
        "created_at": 0.0,
        **more,
    }
    key = Key(id=id, salt=SALT, digest=digest(SALT, secret), **fields)  # type: ignore[arg-type]
    return Given(key, write_key(Credential(id, secret)).encode())


def rules(*given: Given, models: tuple[str, ...] = ("*",), **more: object) -> Rules:
    return Rules(
        sequence=1,
        tenants={"acme": Tenant(name="acme", models=models)},
        keys={each.key.id: each.key for each in given},
        **more,  # type: ignore[arg-type]
    )


def said(act: Callable[[], object]) -> str:
    with pytest.raises((Unauthenticated, Exhausted, Unavailable)) as caught:
        act()
    return caught.value.code


def test_a_good_key_is_let_in_by_either_header() -> None:
    """As its tenant, its role and its scope."""
    given = make(scope=Scope(models=("churn*",)))
    access = KeyedAccess(rules(given))
    for headers in (
        given.bearer,
        {b"x-api-key": given.text},
        {b"x-api-key": given.text, **given.bearer},
        {b"authorization": b"bearer  " + given.text},
    ):
        for _ in range(2):
            caller = access.identify(headers, HERE)
            assert (caller.principal.tenant, caller.principal.key) == ("acme", given.key.id)
            assert caller.principal.scope.models == ("churn*",)


def test_a_caller_is_met_once() -> None:
    """The same headers give the same caller and permit until the rules change."""
    given = make()
    access = KeyedAccess(rules(given))
    caller = access.identify(given.bearer, HERE)
    permit = caller.permit("churn")
    assert access.identify(dict(given.bearer), HERE) is caller
    assert caller.permit("churn") is permit
    access.replace(rules(given))
    again = access.identify(given.bearer, HERE)
    assert again is not caller
    assert again.permit("churn") is not permit


@pytest.mark.parametrize("is_known", [False, True], ids=["new", "met before"])
@pytest.mark.parametrize(
    "change",
    [
        lambda given: given.changed(revoked_at=1.0),
        lambda given: given.changed(expires_at=time.time() - 1),
        lambda given: given.changed(tenant="gone"),
        lambda given: given.changed(digest=digest(SALT, new_secret())),
        lambda given: given.changed(id="bbbbbbbbbbbb"),
    ],
    ids=["revoked", "expired", "without a tenant", "of another secret", "of another id"],
)
def test_a_key_that_is_not_good_is_told_nothing_more(
    change: Callable[[Given], Given], is_known: bool
) -> None:
    """Whatever is wrong with it, and however often it was good before, the words are the same."""
    given = make()
    access = KeyedAccess(rules(given))
    if is_known:
        access.identify(given.bearer, HERE)
    access.replace(rules(change(given)))
    with pytest.raises(Unauthenticated) as caught:
        access.identify(given.bearer, HERE)
    with pytest.raises(Unauthenticated) as nonsense:
        access.identify({b"authorization": b"Bearer nonsense"}, HERE)
    assert str(caught.value) == str(nonsense.value)
    assert caught.value.code == nonsense.value.code == "bad_key"


def test_a_key_dies_at_its_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it was met before, and no rules have changed."""
    given = make(expires_at=1000.0)
    access = KeyedAccess(rules(given))
    monkeypatch.setattr(time, "time", lambda: 999.9)
    access.identify(given.bearer, HERE)
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert said(lambda: access.identify(given.bearer, HERE)) == "bad_key"


def test_nobody_is_let_in_without_a_key() -> None:
    """And is told what to send; that is no guess."""
    access = KeyedAccess(rules(make()), guesses=Guesses(most=1))
    for _ in range(5):
        assert said(lambda: access.identify({b"host": b"here"}, HERE)) == "no_key"


def test_a_caller_is_the_same_by_every_spelling() -> None:
    """Both headers, either, or the scheme in other letters: one caller with one set of permits."""
    given = make()
    access = KeyedAccess(rules(given))
    caller = access.identify(given.bearer, HERE)
    for headers in (
        {b"x-api-key": given.text},
        {b"x-api-key": given.text, **given.bearer},
        {b"authorization": b"BEARER " + given.text},
        *({b"authorization": b"Bearer" + b" " * blanks + given.text} for blanks in range(1, 50)),
    ):
        assert access.identify(headers, HERE) is caller
    assert len(access._by_authorization) == 2


def test_keys_are_told_from_headers_of_the_other_kind() -> None:
    """A value that is good in one header is nothing in the other, whatever was seen before."""
    given = make()
    access = KeyedAccess(rules(given))
    access.identify(given.bearer, HERE)
    access.identify({b"x-api-key": given.text}, HERE)
    for headers in (
        {b"x-api-key": b"Bearer " + given.text},
        {b"authorization": given.text},
        {b"x-api-key": make("cccccccccccc").text, **given.bearer},
        {b"x-api-key": b"", **given.bearer},
        {b"x-api-key": given.text, b"authorization": b""},
    ):
        assert said(lambda headers=headers: access.identify(headers, HERE)) == "bad_key"  # type: ignore[misc]


def test_failures_of_a_source_are_slowed_and_no_good_key_is() -> None:
    """After some, the failing are told to wait; a good key passes from the very same address."""
    given = make()
    access = KeyedAccess(rules(given), guesses=Guesses(most=3))
    wrong = make().bearer
    assert [said(lambda: access.identify(wrong, HERE)) for _ in range(5)] == [
        *["bad_key"] * 3,
        *["too_many_failures"] * 2,
    ]
    assert access.identify(given.bearer, HERE).principal.name == "ann"
    assert said(lambda: access.identify(wrong, Peer(address="10.0.0.2"))) == "bad_key"
    with pytest.raises(Exhausted) as caught:
        access.identify({b"authorization": b""}, HERE)
    assert caught.value.retry_after_s is not None


def test_an_unknown_key_costs_the_digest_of_a_known_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """So its time does not say whether the id is known."""
    digested = []
    monkeypatch.setattr(
        module, "digest", lambda salt, secret: digested.append(len(salt)) or digest(salt, secret)
    )
    access = KeyedAccess(rules(make()))
    digested.clear()
    for wrong in (make("aaaaaaaaaaaa"), make("zzzzzzzzzzzz")):
        assert said(lambda wrong=wrong: access.identify(wrong.bearer, HERE)) == "bad_key"  # type: ignore[misc]
    assert digested == [16, 16]


def test_without_the_registry_an_unknown_key_is_not_called_bad() -> None:
    """It may be new: 503. A known one goes on; a wrong, revoked or expired one is still 401."""
    good, revoked = make(), make("bbbbbbbbbbbb", revoked_at=1.0)
    expired = make("cccccccccccc", expires_at=1.0)
    access = KeyedAccess(rules(good, revoked, expired))
    access.mark_current(False)
    access.identify(good.bearer, HERE)
    unknown = make("zzzzzzzzzzzz").bearer
    for _ in range(100):
        assert said(lambda: access.identify(unknown, HERE)) == "keys_unverified"
    for bad in (revoked.bearer, expired.bearer, make().bearer):
        assert said(lambda bad=bad: access.identify(bad, HERE)) == "bad_key"  # type: ignore[misc]
    access.mark_current(True)
    assert said(lambda: access.identify(unknown, HERE)) == "bad_key"


def test_before_the_rules_were_read_nobody_is_called_bad() -> None:
    """An access without rules answers that it cannot say."""
    access = KeyedAccess()
    assert said(lambda: access.identify(make().bearer, HERE)) == "keys_unverified"
    assert said(lambda: access.identify({}, HERE)) == "no_key"


def test_models_out_of_sight_are_denied_whether_they_are_there_or_not() -> None:
    """By the key's scope or its tenant's; and nothing is kept of them."""
    given = make(scope=Scope(models=("churn*", "iris")))
    access = KeyedAccess(rules(given, models=("churn*",)))
    caller = access.identify(given.bearer, HERE)
    assert caller.permit("churn-2").model == "churn-2"
    for model in ("iris", "other", "x" * 10_000, "", "churn\x00".upper()):
        with pytest.raises(Denied):
            caller.permit(model)
    caller.check(Verb.CALL, "churn")
    with pytest.raises(Denied):
        caller.check(Verb.READ)


def test_a_scope_without_calls_gives_no_permit() -> None:
    """An auditor's key, or one that may only read, calls nothing."""
    auditor = make(role=Role.AUDITOR)
    reader = make("bbbbbbbbbbbb", role=Role.ADMIN, scope=Scope(verbs=frozenset({Verb.READ})))
    access = KeyedAccess(rules(auditor, reader))
    for given in (auditor, reader):
        caller = access.identify(given.bearer, HERE)
        caller.check(Verb.READ, "churn")
        with pytest.raises(Denied):
            caller.permit("churn")


def test_what_callers_make_us_keep_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many models they name, and however many they are."""
    monkeypatch.setattr(module, "_MOST_PERMITS", 100)
    monkeypatch.setattr(module, "_MOST_CALLERS", 10)
    many = [make(f"{'abcdefghijklmnop'[n]}aaaaaaaaaaa") for n in range(16)]
    access = KeyedAccess(rules(*many))
    for given in many:
        caller = access.identify(given.bearer, HERE)
        for number in range(50):
            assert caller.permit(f"m{number}").key == given.key.id
        caller.permit("x" * 129)
    assert len(access._by_authorization) + len(access._by_token) <= 12
    kept = [len(each._permits) for each in access._by_authorization.values()]
    assert sum(kept) <= 100
    assert not any("x" * 129 in each._permits for each in access._by_authorization.values())


def test_a_permit_has_the_allowance_that_holds_for_it() -> None:
    """Made once for a caller and a model."""
    asked: list[tuple[str, str]] = []

    def allowance_of(principal: Principal, model: str) -> None:
        asked.append((principal.key, model))

    given = make()
    access = KeyedAccess(rules(given), allowance_of=allowance_of)
    for _ in range(3):
        access.identify(given.bearer, HERE).permit("churn")
    assert asked == [(given.key.id, "churn")]


CERTIFIED = IdentityMapping(
    id="m",
    source="certificate",
    claims=(("subject", "CN=x"),),
    role=Role.DEPLOYER,
    tenant="acme",
)


def test_a_certificate_that_is_known_is_somebody() -> None:
    """Where no key is given; one that is not known is nobody, and no guess."""
    access = KeyedAccess(rules(mappings=(CERTIFIED,)))
    caller = access.identify({}, OWNED)
    assert caller.principal.role is Role.DEPLOYER
    assert access.identify({}, OWNED) is caller
    stranger = replace(OWNED, certificate=Certificate(subject="CN=y", sha256="cd" * 32))
    assert said(lambda: access.identify({}, stranger)) == "no_key"


def test_a_certificate_ends_on_a_connection_that_outlives_it() -> None:
    """Hands are shaken once; who it is is asked with each request."""
    access = KeyedAccess(rules(mappings=(CERTIFIED,)))
    assert OWNED.certificate is not None
    peer = replace(OWNED, certificate=replace(OWNED.certificate, expires_at=time.time() + 0.05))
    assert access.identify({}, peer).principal.role is Role.DEPLOYER
    time.sleep(0.06)
    assert said(lambda: access.identify({}, peer)) == "no_key"


def test_a_key_comes_before_a_certificate_and_a_bad_one_never_falls_back() -> None:
    """What is sent on purpose counts: bad, empty or unreadable, it is refused."""
    given = make()
    access = KeyedAccess(rules(given, mappings=(CERTIFIED,)))
    assert access.identify(given.bearer, OWNED).principal.key == given.key.id
    for headers in (
        make().bearer,
        {b"authorization": b""},
        {b"authorization": b"Basic eDp5"},
        {b"x-api-key": b""},
    ):
        assert said(lambda headers=headers: access.identify(headers, OWNED)) == "bad_key"  # type: ignore[misc]


class Tokens:
    """Vouches for one token, for as long as it says."""

    def __init__(self, expires_at: float | None = None) -> None:
        self.expires_at = expires_at
        self.asked = 0

    def principal_of(self, token: bytes, rules: Rules) -> Principal | None:
        self.asked += 1
        if token == b"lost":
            raise Unavailable("issuer_unavailable", "the issuer does not answer")
        if token != b"good":
            return None
        return Principal(
            tenant="acme", key="oidc:x", name="x", role=Role.CALLER, expires_at=self.expires_at
        )


def test_what_is_no_key_of_ours_is_shown_to_the_authorities() -> None:
    """Each may know it; what was found is kept until it expires. Our keys are never shown."""
    tokens = Tokens(expires_at=time.time() + 60)
    given = make()
    access = KeyedAccess(rules(given), authorities=(Tokens(), tokens))
    for _ in range(3):
        assert access.identify({b"authorization": b"Bearer good"}, HERE).principal.key == "oidc:x"
    asked = tokens.asked
    access.identify(given.bearer, HERE)
    assert said(lambda: access.identify(make().bearer, HERE)) == "bad_key"
    assert tokens.asked == asked
    assert said(lambda: access.identify({b"x-api-key": b"bad"}, HERE)) == "bad_key"
    assert said(lambda: access.identify({b"x-api-key": b"lost"}, HERE)) == "issuer_unavailable"


def test_a_token_that_has_expired_is_refused() -> None:
    """Whatever its authority says."""
    access = KeyedAccess(rules(), authorities=(Tokens(expires_at=time.time() - 1),))
    assert said(lambda: access.identify({b"authorization": b"Bearer good"}, HERE)) == "bad_key"


def test_no_secret_is_in_what_is_shown_of_anything() -> None:
    """Not in reprs of keys and rules, nor in the error and its whole traceback's values."""
    given = make()
    access = KeyedAccess(rules(given))
    wrong = make()
    with pytest.raises(Unauthenticated) as caught:
        access.identify(wrong.bearer, HERE)
    secret = wrong.text.decode()[16:]
    assert secret not in str(caught.value) + repr(caught.value.args) + repr(rules(given))
    assert caught.value.__cause__ is None
    assert repr(given.key.digest) not in repr(rules(given))
