"""Tokens of an OpenID Connect issuer: which are believed, and what it takes to be asked."""

import json
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import ECKey, RSAKey

from modelyard.core.errors import Invalid, ModelyardError, Unauthenticated, Unavailable
from modelyard.core.identity import Peer, Principal, Role
from modelyard.core.rules import IdentityMapping, Rules, Tenant
from modelyard.gateway.access import KeyedAccess
from modelyard.gateway.jwks import IssuerKeys, VerifyingKey, check_url, parse_keys
from modelyard.gateway.oidc import MOST_BYTES, OidcAuthority
from tests.unit.gateway.issuer import (
    AUDIENCE,
    Issuer,
    encode,
    served,
    sign,
    sign_symmetric,
)

PEER = Peer(address="10.0.0.1")


class Held:
    """Keys that are here already."""

    def __init__(self, issuer: Issuer) -> None:
        self._issuer = issuer
        self.asked = 0

    def find(self, key_id: str, algorithm: str) -> VerifyingKey | None:
        self.asked += 1
        for key in parse_keys(self._issuer.document()):
            if key.id == key_id and algorithm in key.algorithms:
                return key
        return None


def rules(source: str) -> Rules:
    mapping = IdentityMapping(
        id="1", source=source, claims=(("groups", "ml"),), role=Role.DEPLOYER, tenant="acme"
    )
    return Rules(sequence=1, tenants={"acme": Tenant(name="acme")}, mappings=(mapping,))


@pytest.fixture(scope="module")
def issuer() -> Issuer:
    made = Issuer()
    for algorithm in ("RS256", "ES256", "EdDSA"):
        made.add(algorithm, algorithm)
    return made


@pytest.fixture
def held(issuer: Issuer) -> Held:
    return Held(issuer)


Ask = Callable[[bytes], Principal | None]


@pytest.fixture
def ask(issuer: Issuer, held: Held) -> Ask:
    authority = OidcAuthority(issuer.url, AUDIENCE, held)
    known = rules(issuer.url)
    return lambda token: authority.principal_of(token, known)


@pytest.mark.parametrize("key_id", ["RS256", "ES256", "EdDSA"])
def test_a_good_token_is_believed(key_id: str, issuer: Issuer, ask: Ask) -> None:
    """By each algorithm that is allowed: its mapping says who it is, and its expiry until when."""
    found = ask(issuer.token(key_id, email="ada@acme.example"))
    assert found is not None
    assert (found.tenant, found.key, found.role) == ("acme", "oidc:ada", Role.DEPLOYER)
    assert found.name == "ada@acme.example"
    assert found.expires_at is not None
    assert 0 < found.expires_at - time.time() < 400


def test_an_audience_may_be_one_of_several(issuer: Issuer, ask: Ask) -> None:
    """And tokens made for access are as good as those that say who somebody is."""
    assert ask(issuer.token("ES256", aud=["x", AUDIENCE])) is not None
    assert ask(issuer.token("ES256", header={"typ": "at+jwt"})) is not None
    assert ask(issuer.token("ES256", header={"typ": None})) is not None


_NOW = int(time.time())
_WRONG_CLAIMS: dict[str, dict[str, object]] = {
    "another issuer": {"iss": "https://evil.example"},
    "an issuer like ours": {"iss": "https://issuer.example/"},
    "no issuer": {"iss": None},
    "issuers": {"iss": ["https://issuer.example"]},
    "another audience": {"aud": "other"},
    "no audience": {"aud": None},
    "nobody's audience": {"aud": []},
    "part of an audience": {"aud": AUDIENCE[:-1]},
    "an audience of numbers": {"aud": [7]},
    "an audience that is an object": {"aud": {AUDIENCE: 1}},
    "expired": {"exp": _NOW - 3600},
    "no expiry": {"exp": None},
    "expiry as text": {"exp": str(_NOW + 3600)},
    "expiry as truth": {"exp": True},
    "expiry as list": {"exp": [_NOW + 3600]},
    "expiry at no time": {"exp": 1e308},
    "not yet": {"nbf": _NOW + 3600},
    "not yet as text": {"nbf": "0"},
    "made tomorrow": {"iat": _NOW + 86_400},
    "nobody": {"sub": None},
    "empty nobody": {"sub": ""},
    "a number": {"sub": 7},
    "no group": {"groups": None},
    "groups as text": {"groups": "mlops"},
    "groups as object": {"groups": {"ml": 1}},
    "other groups": {"groups": ["ML", "m", "l"]},
}


@pytest.mark.parametrize("claims", _WRONG_CLAIMS.values(), ids=_WRONG_CLAIMS)
def test_wrong_claims_are_not_believed(claims: dict[str, object], issuer: Issuer, ask: Ask) -> None:
    """However well they are signed."""
    assert ask(issuer.token("ES256", **claims)) is None


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"7",
        b'"text"',
        b"null",
        b"{",
        b"\xff\xfe{}",
        b"[" * 3000,
        b'{"exp":' + b"9" * 2000 + b"}",
    ],
)
def test_a_payload_that_is_none_is_not_believed(payload: bytes, issuer: Issuer, ask: Ask) -> None:
    """No object, no JSON, or more than a reader bears."""
    assert ask(issuer.token("ES256", payload)) is None


def test_an_expiry_has_a_little_leeway(issuer: Issuer, ask: Ask) -> None:
    """Clocks differ by seconds, not by minutes."""
    assert ask(issuer.token("ES256", exp=int(time.time()) - 10)) is not None
    assert ask(issuer.token("ES256", exp=int(time.time()) - 60)) is None


def _body(issuer: Issuer) -> bytes:
    return json.dumps(issuer.claims()).encode()


def test_an_algorithm_is_never_none(issuer: Issuer, ask: Ask) -> None:
    """Nor anything like it, with or without a signature."""
    for name in ("none", "None", "NONE", "nOnE", "", "HS256", "HS512", "RS1", "RS512", "PS256"):
        header = encode(json.dumps({"alg": name, "kid": "ES256"}).encode())
        for signature in (b"", b"AAAA"):
            assert ask(header + b"." + encode(_body(issuer)) + b"." + signature) is None


def test_a_public_key_is_no_secret(issuer: Issuer, ask: Ask) -> None:
    """HMAC with the issuer's public key, in every spelling of it, is nobody's signature."""
    for key_id in ("RS256", "ES256", "EdDSA"):
        public = issuer.keys[key_id][1].public_key
        for encoding, form in (
            (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
            (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo),
        ):
            secret = public.public_bytes(encoding, form)
            for algorithm in ("HS256", key_id):
                header: dict[str, object] = {"alg": algorithm, "kid": key_id}
                assert ask(sign_symmetric(header, _body(issuer), secret)) is None


def test_a_key_signs_by_its_own_algorithm_only(issuer: Issuer, ask: Ask) -> None:
    """A header that names another key, or another algorithm for it, is not believed."""
    for key_id in issuer.keys:
        for other, (algorithm, key) in issuer.keys.items():
            if other != key_id:
                header: dict[str, object] = {"alg": algorithm, "kid": key_id}
                assert ask(sign(header, _body(issuer), key, algorithm)) is None
                header["alg"] = issuer.keys[key_id][0]
                assert ask(sign(header, _body(issuer), key, algorithm)) is None


def test_a_key_in_the_token_is_not_used(issuer: Issuer, ask: Ask) -> None:
    """Nor one at an address that it names."""
    mine = ECKey.generate_key("P-256")
    for more in (
        {"jwk": mine.as_dict(private=False)},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/x"},
        {"x5c": ["AAAA"]},
    ):
        for key_id in ("ES256", ""):
            header: dict[str, object] = {"alg": "ES256", "kid": key_id, **more}
            assert ask(sign(header, _body(issuer), mine, "ES256")) is None


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "../../../../etc/passwd"},
        {"kid": "' OR 1=1 --"},
        {"kid": "x" * 300},
        {"kid": 7},
        {"kid": ["ES256"]},
        {"kid": None, "alg": None},
        {"alg": ["ES256"]},
        {"alg": 7},
        {"crit": ["exp"], "exp": 1},
        {"crit": []},
        {"b64": False},
        {"cty": "JWT"},
        {"typ": "logout+jwt"},
        {"typ": 7},
        {"zip": "DEF", "enc": "A256GCM", "typ": "JWE"},
    ],
)
def test_a_header_with_tricks_is_not_believed(
    header: dict[str, object], issuer: Issuer, ask: Ask
) -> None:
    """Odd ids, odd types, and what must be understood to be believed."""
    assert ask(issuer.token("ES256", header=header)) is None


def test_a_token_in_a_token_is_not_opened(issuer: Issuer, ask: Ask) -> None:
    """A signature around a good token is no good token."""
    inner = issuer.token("ES256")
    assert ask(issuer.token("ES256", inner)) is None
    assert ask(issuer.token("ES256", inner, header={"cty": "JWT"})) is None
    assert ask(inner + b"." + inner) is None


def test_a_token_has_one_spelling(issuer: Issuer, ask: Ask) -> None:
    """Not padded, not wrapped, not in another alphabet, not in five parts, and not without end."""
    good = issuer.token("ES256")
    header, payload, signature = good.split(b".")
    for bad in (
        b"",
        b".",
        b"..",
        header,
        header + b"." + payload,
        header + b"." + payload + b".",
        good + b".",
        good + b"=",
        good + b"\n",
        b" " + good,
        good.replace(b".", b".\n"),
        header + b"=." + payload + b"." + signature,
        b".".join([header, payload, signature, signature, signature]),
        good[:-4] + b"AAAA",
        header + b"." + encode(_body(issuer)) + b"." + signature[::-1],
        issuer.token("ES256", more="x" * MOST_BYTES),
        b"{" + good + b"}",
    ):
        assert ask(bad) is None, bad
    assert ask(good) is not None


def test_nobody_is_asked_about_another_issuers_token(issuer: Issuer, held: Held, ask: Ask) -> None:
    """Nor about one that is expired, for another audience, or by a strange algorithm."""
    for claims in ({"iss": "https://evil.example"}, {"aud": "x"}, {"exp": 1}):
        ask(issuer.token("ES256", **claims))
    ask(issuer.token("ES256", header={"alg": "HS256", "kid": "unknown"}))
    assert held.asked == 0


@given(
    st.one_of(
        st.binary(max_size=300),
        st.tuples(*[st.binary(max_size=80)] * 3).map(lambda parts: b".".join(map(encode, parts))),
        st.tuples(
            st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit"]), st.text(max_size=9)),
            st.dictionaries(
                st.sampled_from(["iss", "aud", "exp", "sub", "nbf", "groups"]),
                st.one_of(st.none(), st.booleans(), st.floats(), st.text(max_size=9)),
            ),
            st.binary(max_size=70),
        ).map(
            lambda parts: b".".join(
                [
                    encode(json.dumps({"alg": "ES256", "kid": "ES256", **parts[0]}).encode()),
                    encode(json.dumps({"iss": "https://issuer.example", **parts[1]}).encode()),
                    encode(parts[2]),
                ]
            )
        ),
    )
)
def test_no_text_is_a_token_by_chance(token: bytes) -> None:
    """Whatever is given, nobody is let in, and nothing is raised."""
    assert _FUZZED(token) is None


def _fuzzed() -> Ask:
    made = Issuer()
    made.add("ES256")
    authority = OidcAuthority(made.url, AUDIENCE, Held(made))
    known = rules(made.url)
    return lambda token: authority.principal_of(token, known)


_FUZZED = _fuzzed()


@given(st.data())
def test_a_changed_token_is_not_believed(data: st.DataObject) -> None:
    """Not with any one bit changed."""
    index = data.draw(st.integers(0, len(_TOKEN) - 1))
    bit = data.draw(st.integers(0, 7))
    changed = bytearray(_TOKEN)
    changed[index] ^= 1 << bit
    assert _ASK_ONE(bytes(changed)) is None


_ISSUER = Issuer()
_ISSUER.add("RS256", "RS256")
_TOKEN = _ISSUER.token("RS256", exp=4_000_000_000)


def _ASK_ONE(token: bytes) -> Principal | None:  # noqa: N802 - a constant that is asked
    return OidcAuthority(_ISSUER.url, AUDIENCE, Held(_ISSUER)).principal_of(
        token, rules(_ISSUER.url)
    )


def test_what_cannot_sign_tokens_is_no_key() -> None:
    """Secrets, small keys, keys to encrypt with, other curves, and what is broken are left out."""
    good = ECKey.generate_key("P-256").as_dict(private=False)
    members: list[object] = [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "1"},
        {
            "kty": "RSA",
            "n": RSAKey.generate_key(2048).as_dict()["n"][:170],
            "e": "AQAB",
            "kid": "2",
        },
        {**good, "use": "enc", "kid": "3"},
        {**good, "key_ops": ["encrypt"], "kid": "4"},
        {**good, "key_ops": "verify", "kid": "5"},
        {**ECKey.generate_key("P-384").as_dict(private=False), "kid": "6"},
        {**good, "alg": "HS256", "kid": "7"},
        {**good, "alg": ["ES256"], "kid": "8"},
        {**good, "kid": 9},
        {**good, "x": "AAAA", "kid": "10"},
        {**good, "x": 7, "kid": "11"},
        {"kty": ["EC"], "crv": "P-256"},
        {"kty": "RSA", "kid": "12"},
        "no object",
        None,
        {**good, "kid": "good"},
    ]
    found = parse_keys(json.dumps({"keys": members}).encode())
    assert [each.id for each in found] == ["good"]


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"keys":{}}', b"[" * 100_000, b"\xff", b" " * 2_000_000,
     json.dumps({"keys": [{}] * 1000}).encode()],
)  # fmt: skip
def test_what_is_no_set_of_keys_is_refused(document: bytes) -> None:
    """By its form or by its size."""
    with pytest.raises(Invalid):
        parse_keys(document)


@pytest.mark.parametrize(
    "url",
    [
        "http://issuer.example",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "https://",
        "https://user:word@issuer.example",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example/",
        "//issuer.example",
        "issuer.example",
        "",
    ],
)
def test_an_address_that_anybody_may_answer_at_is_refused(url: str) -> None:
    """Only https, or this machine itself."""
    with pytest.raises(Invalid) as caught:
        check_url(url, "oidc_issuer")
    assert caught.value.code == "bad_issuer_url"


def test_safe_addresses_are_taken() -> None:
    """Https anywhere, http at home."""
    for url in (
        "https://issuer.example/a",
        "http://127.0.0.1:1",
        "http://[::1]:8",
        "http://localhost",
    ):
        assert check_url(url, "x") == url


@pytest.fixture
def real() -> Iterator[Issuer]:
    """An issuer that is asked over a socket."""
    with served(Issuer()) as made:
        made.add("first")
        yield made


class Following:
    """An authority that asks the real issuer."""

    def __init__(self, issuer: Issuer, url: str = "", **more: Any) -> None:
        self.keys = IssuerKeys(issuer.url, url, **{"between_s": 0.05, **more})
        self._authority = OidcAuthority(issuer.url, AUDIENCE, self.keys)
        self._rules = rules(issuer.url)
        self.access = KeyedAccess(self._rules, authorities=(self._authority,))

    def ask(self, token: bytes) -> Principal | None:
        return self._authority.principal_of(token, self._rules)

    def until_known(self, token: bytes) -> Principal | None:
        """What is said once it is known; the test's time limit bounds it."""
        while True:
            try:
                return self.ask(token)
            except Unavailable:
                time.sleep(0.005)


@pytest.fixture
def follow(real: Issuer) -> Iterator[Callable[..., Following]]:
    made: list[Following] = []

    def start(url: str = "", **more: Any) -> Following:
        one = Following(real, url, **more)
        made.append(one)
        one.keys.start()
        return one

    yield start
    for each in made:
        each.keys.stop()


def test_keys_are_discovered_and_turn_without_a_restart(
    real: Issuer, follow: Callable[..., Following]
) -> None:
    """A token by a new key is first answered with 'in a moment', and then believed; one by a key
    that the issuer has taken away is not."""
    following = follow()
    assert following.until_known(real.token("first")) is not None
    assert real.asked == ["/.well-known/openid-configuration", "/keys"]
    old = real.token("first")
    real.add("second", "RS256")
    del real.keys["first"]
    assert following.until_known(real.token("second")) is not None
    assert following.until_known(old) is None


def test_the_address_of_the_keys_can_be_given(
    real: Issuer, follow: Callable[..., Following]
) -> None:
    """Then nothing else is asked."""
    following = follow(f"{real.url}/keys")
    assert following.until_known(real.token("first")) is not None
    assert real.asked == ["/keys"]


def test_unknown_ids_bring_one_question_at_most(
    real: Issuer, follow: Callable[..., Following]
) -> None:
    """However many tokens come with ids that nobody has: whoever sends them asks nobody."""
    following = follow(between_s=3600.0)
    assert following.until_known(real.token("first")) is not None
    asked = len(real.asked)
    for index in range(500):
        with pytest.raises(Unavailable):
            following.ask(real.token("first", header={"kid": f"unknown-{index}"}))
    assert len(real.asked) == asked
    assert following.ask(real.token("first")) is not None


def test_an_issuer_that_is_away_stops_nobody_whom_it_has_vouched_for(
    real: Issuer, follow: Callable[..., Following], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its last keys go on, also after a restart, and new ids are 'in a moment'; past their time
    nobody is believed."""
    file = tmp_path / "keys.json"
    with caplog.at_level(logging.CRITICAL, "modelyard.gateway.jwks"):
        first = follow(file=file)
        assert first.until_known(real.token("first")) is not None
        real.is_away = True
        asked = len(real.asked)
        again = follow(file=file)
        real.wait_for(asked + 1)
        assert again.ask(real.token("first")) is not None
        with pytest.raises(Unavailable) as caught:
            # It may have a key since that nobody could tell us of.
            again.ask(real.token("first", header={"kid": "new"}))
        assert caught.value.retry_after_s == 1.0
        bounded = follow(file=file, keep_s=0.0)
        with pytest.raises(Unavailable):
            bounded.ask(real.token("first"))
        stranger = follow(file=tmp_path / "none.json")
        with pytest.raises(Unavailable) as caught:
            stranger.ask(real.token("first"))
        assert caught.value.code == "token_unverified"


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 10_000, b'{"issuer":"x","keys":[]}'])
def test_a_broken_memory_is_forgotten(
    content: bytes, real: Issuer, follow: Callable[..., Following], tmp_path: Path
) -> None:
    """What was written down is only a help."""
    file = tmp_path / "keys.json"
    file.write_bytes(content)
    assert follow(file=file).until_known(real.token("first")) is not None


def test_a_discovery_document_of_another_issuer_is_not_believed(
    real: Issuer, follow: Callable[..., Following], caplog: pytest.LogCaptureFixture
) -> None:
    """Nor one that names keys that come unprotected, and no redirect is followed."""
    with caplog.at_level(logging.CRITICAL, "modelyard.gateway.jwks"):
        for told in (
            {"issuer": "https://evil.example", "jwks_uri": f"{real.url}/keys"},
            {"issuer": real.url, "jwks_uri": "http://evil.example/keys"},
            {"issuer": real.url, "jwks_uri": "file:///etc/passwd"},
            {"issuer": real.url},
        ):
            real.discovered = told
            asked = len(real.asked)
            following = follow()
            real.wait_for(asked + 1)
            with pytest.raises(Unavailable):
                following.ask(real.token("first"))
        following = follow(f"{real.url}/moved")
        real.wait_for(len(real.asked) + 1)
        with pytest.raises(Unavailable):
            following.ask(real.token("first"))


def test_a_token_opens_the_door_as_a_key_does(
    real: Issuer, follow: Callable[..., Following]
) -> None:
    """Looked at once and then remembered until it expires; a bad one is no caller."""
    following = follow()
    token = real.token("first")
    assert following.until_known(token) is not None
    headers = {b"authorization": b"Bearer " + token}
    caller = following.access.identify(headers, PEER)
    assert caller.principal.key == "oidc:ada"
    assert following.access.identify(headers, PEER) is caller
    with pytest.raises(Unauthenticated):
        following.access.identify({b"authorization": b"Bearer " + token[:-9]}, PEER)


def test_an_error_does_not_tell_the_token(
    real: Issuer, follow: Callable[..., Following], caplog: pytest.LogCaptureFixture
) -> None:
    """Not in its words, not in the log."""
    following = follow(between_s=3600.0)
    token = real.token("first", exp=1)
    with pytest.raises(ModelyardError) as caught:
        following.access.identify({b"authorization": b"Bearer " + token}, PEER)
    told = str(caught.value) + caplog.text
    for part in token.decode().split("."):
        assert part not in told
