"""Who is calling, by key, by token or by certificate: one look-up for whom it has seen before."""

import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

from modelyard.core.errors import ModelyardError, Unauthenticated, Unavailable
from modelyard.core.identity import DEFAULT_TENANT, Peer, Principal, Role, Verb
from modelyard.core.ports import Headers
from modelyard.core.rules import Key, Rules
from modelyard.gateway.credentials import (
    PREFIX,
    Credential,
    bad_credential,
    digest,
    find_token,
    is_same,
    new_salt,
    new_secret,
    no_credential,
    read_key,
)
from modelyard.gateway.guesses import Guesses
from modelyard.gateway.mappings import certificate_principal
from modelyard.gateway.permits import Allowance, Capture, KeyedPermit
from modelyard.gateway.visits import Visits

_MOST_CALLERS: Final = 10_000
_MOST_PERMITS: Final = 100_000
"""In all: what callers make us keep by naming models is bounded."""
_LONGEST_NAME: Final = 128
_NO_CERTIFICATE: Final = ""
_BEARER: Final = b"Bearer "

FRONT: Final = Principal(
    tenant=DEFAULT_TENANT, key="local:front", name="the container's front", role=Role.CALLER
)
"""Who calls without a key in a cloud's container, where only the cloud's own front comes by: it has
asked its callers who they are, and cannot say it here."""

AllowanceOf = Callable[[Principal, str], Allowance | None]
"""The limits that hold for somebody's calls to a model."""


def no_allowance(principal: Principal, model: str) -> None:
    """Without limits."""


CaptureOf = Callable[[str], Capture | None]
"""What is kept of the calls to a model."""


def no_capture(model: str) -> None:
    """Nothing."""


class Authority(Protocol):
    """Vouches for tokens that are no keys of ours: an OIDC issuer. Microseconds, no await."""

    def principal_of(self, token: bytes, rules: Rules) -> Principal | None:
        """Whose token it is; None for one that is not its own, or not good.

        Raises `Unavailable` where it cannot say at the moment. Asked again once what it said has
        expired (`Principal.expires_at`) or the rules have changed.
        """
        ...


class KeyedCaller:
    """Somebody who was let in, with the permits that were made for them."""

    __slots__ = ("_access", "_permits", "expires_at", "principal")

    def __init__(self, access: "KeyedAccess", principal: Principal) -> None:
        self.principal = principal
        self.expires_at = principal.expires_at
        self._access = access
        self._permits: dict[str, KeyedPermit] = {}

    def check(self, verb: Verb, model: str | None = None) -> None:
        """Raise `Denied` where it may not do this, or not to this model."""
        self.principal.check(verb, model)

    def permit(self, model: str) -> KeyedPermit:
        """Leave to call a model; raises `Denied`, whether the model is there or not."""
        permit = self._permits.get(model)
        if permit is None:
            permit = self._access.make_permit(self.principal, model, self._permits)
        return permit


class KeyedAccess:
    """Lets in whoever has a good key, a good token, or a certificate that is known.

    Used on the event loop's thread only. Without rules nobody is let in, and nobody told that their
    key is not good, until there are some and they are current.

    What a request carries is looked up as it came, among those that were found good since the rules
    last changed. That look-up compares a secret only with one whose whole keyed hash is the same,
    so its time tells nothing. Who shows no credential at all is `unnamed`, or refused.
    """

    is_open = False

    def __init__(
        self,
        rules: Rules | None = None,
        *,
        allowance_of: AllowanceOf = no_allowance,
        capture_of: CaptureOf = no_capture,
        authorities: Sequence[Authority] = (),
        guesses: Guesses | None = None,
        visits: Visits | None = None,
        unnamed: Principal | None = None,
    ) -> None:
        self._allowance_of = allowance_of
        self._capture_of = capture_of
        self._authorities = tuple(authorities)
        self._guesses = guesses or Guesses()
        self._visits = visits or Visits()
        self._unnamed = unnamed
        self._is_current = rules is not None
        # Digested with for a key that nobody knows, so that it costs as much as one with a wrong
        # secret.
        self._nobody: Final = new_salt(), digest(new_salt(), new_secret())
        self.replace(rules or Rules())

    def replace(self, rules: Rules) -> None:
        """Go by other rules from now on; every caller and permit made before is forgotten."""
        self._rules = rules
        self._forget()

    def mark_current(self, is_current: bool) -> None:
        """Say whether the rules could be read when they were last looked for.

        While they could not, a key that they do not know may be one that was made since.
        """
        self._is_current = is_current

    def identify(self, headers: Headers, peer: Peer) -> KeyedCaller:
        """Who sends these headers over this connection."""
        if b"x-api-key" in headers:
            return self._meet(headers, peer)
        # A header that is not there is no key of the dictionary.
        caller = self._by_authorization.get(headers.get(b"authorization"))
        if caller is None:
            return self._meet(headers, peer)
        if caller.expires_at is not None and time.time() >= caller.expires_at:
            return self._meet(headers, peer)
        return caller

    def make_permit(
        self, principal: Principal, model: str, kept: dict[str, KeyedPermit]
    ) -> KeyedPermit:
        """A permit that was not asked for before, kept where there is room; raises `Denied`."""
        principal.check(Verb.CALL, model)
        permit = KeyedPermit(
            principal, model, self._allowance_of(principal, model), self._capture_of(model)
        )
        if len(model) <= _LONGEST_NAME:
            if self._permits == _MOST_PERMITS:
                self._forget()
            kept[model] = permit
            self._permits += 1
        return permit

    def _forget(self) -> None:
        self._by_authorization: dict[bytes | None, KeyedCaller] = {}
        self._by_token: dict[bytes, KeyedCaller] = {}
        self._by_certificate: dict[str, KeyedCaller] = {}
        self._permits = 0

    def _meet(self, headers: Headers, peer: Peer) -> KeyedCaller:
        """Somebody who was not seen before, or not with these headers."""
        try:
            token = find_token(headers)
            if token is None:
                return self._meet_certificate(peer)
            caller = self._by_token.get(token)
            if caller is None or caller.principal.is_expired:
                caller = KeyedCaller(self, self._principal_of(token))
                self._make_room()
                self._by_token[token] = caller
                self._visits.enter(caller.principal, peer.address)
        except Unauthenticated as error:
            raise self._refused(error, peer) from None
        if b"x-api-key" not in headers:
            self._keep_spelling(headers[b"authorization"], token, caller)
        return caller

    def _meet_certificate(self, peer: Peer) -> KeyedCaller:
        certificate = peer.certificate
        if certificate is None:
            return self._meet_unnamed()
        caller = self._by_certificate.get(certificate.sha256)
        if caller is None:
            principal = certificate_principal(self._rules, certificate)
            if principal is None:
                raise no_credential()
            caller = KeyedCaller(self, principal)
            self._make_room()
            self._by_certificate[certificate.sha256] = caller
            self._visits.enter(principal, peer.address)
        if caller.principal.is_expired:
            # It was good when hands were shaken.
            raise no_credential()
        return caller

    def _meet_unnamed(self) -> KeyedCaller:
        if self._unnamed is None:
            raise no_credential()
        caller = self._by_certificate.get(_NO_CERTIFICATE)
        if caller is None:
            caller = self._by_certificate[_NO_CERTIFICATE] = KeyedCaller(self, self._unnamed)
        return caller

    def _make_room(self) -> None:
        known = len(self._by_authorization) + len(self._by_token) + len(self._by_certificate)
        if known >= _MOST_CALLERS:
            self._forget()

    def _keep_spelling(self, authorization: bytes, token: bytes, caller: KeyedCaller) -> None:
        # Of one token there are many spellings, with many blanks: those are not kept.
        if len(authorization) == len(_BEARER) + len(token):
            self._make_room()
            self._by_authorization[authorization] = caller

    def _principal_of(self, token: bytes) -> Principal:
        if token.startswith(PREFIX):
            return self._key_principal(read_key(token))
        for authority in self._authorities:
            principal = authority.principal_of(token, self._rules)
            if principal is not None and not principal.is_expired:
                return principal
        raise bad_credential()

    def _key_principal(self, credential: Credential) -> Principal:
        key = self._rules.keys.get(credential.id)
        salt, wanted = self._nobody if key is None else (key.salt, key.digest)
        is_good = is_same(digest(salt, credential.secret), wanted)
        if key is None and not self._is_current:
            raise Unavailable(
                "keys_unverified",
                "this key is not known here, and the registry cannot be asked at the moment; "
                "try again in a moment",
                retry_after_s=1.0,
            )
        if key is None or not is_good or key.revoked_at is not None:
            raise bad_credential()
        return self._live(key)

    def _live(self, key: Key) -> Principal:
        tenant = self._rules.tenants.get(key.tenant)
        if tenant is None:
            raise bad_credential()
        principal = Principal(
            tenant=key.tenant,
            key=key.id,
            name=key.name,
            role=key.role,
            scope=key.scope,
            tenant_models=tenant.models,
            expires_at=key.expires_at,
        )
        if principal.is_expired:
            raise bad_credential()
        return principal

    def _refused(self, error: Unauthenticated, peer: Peer) -> ModelyardError:
        # Whoever gives nothing guesses nothing.
        if error.code != "no_key":
            self._visits.refuse(peer.address)
            self._guesses.note(peer.address)
        return error
