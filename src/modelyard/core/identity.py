"""Who calls, and what they may: tenants, principals, roles, verbs and scopes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from modelyard.core.errors import Denied

DEFAULT_TENANT: Final = "default"
"""The tenant that every home has, and that sees every model."""
EVERY_MODEL: Final = ("*",)


class Verb(StrEnum):
    """What can be allowed or not. Every route and every RPC asks for one of these, or is public."""

    CALL = "call"
    """Call models, and read what calling needs: metadata, readiness, the index, the documents."""
    READ = "read"
    """Read models, versions, routes, roll-outs, and one's own tenant's usage and limits."""
    DEPLOY = "deploy"
    """Publish versions and change routes and aliases."""
    AUDIT = "audit"
    """Read the audit, every tenant's usage, and captured payloads."""
    ADMIN = "admin"
    """Change keys, tenants, limits, prices and policies, and erase payloads."""


class Role(StrEnum):
    """A named set of verbs."""

    CALLER = "caller"
    DEPLOYER = "deployer"
    AUDITOR = "auditor"
    ADMIN = "admin"


VERBS: Final[Mapping[Role, frozenset[Verb]]] = {
    Role.CALLER: frozenset({Verb.CALL}),
    Role.DEPLOYER: frozenset({Verb.CALL, Verb.READ, Verb.DEPLOY}),
    Role.AUDITOR: frozenset({Verb.READ, Verb.AUDIT}),
    Role.ADMIN: frozenset(Verb),
}
"""What each role may; a key's scope can only take away from it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """What of its role's verbs a key keeps, on which models, and until when.

    `models` are shell patterns of names (`churn*`), `verbs` None for all that the role has.
    """

    models: tuple[str, ...] = EVERY_MODEL
    verbs: frozenset[Verb] | None = None


WHOLE_SCOPE: Final = Scope()


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who calls. `key` names the credential and is no secret: a key's id, `oidc:…`, `cert:…`, or
    `local:…` for a user of this machine; `name` is what people call it.

    `tenant_models` are the patterns of the models that its tenant may see at all. `expires_at` is
    in Unix seconds, None for never.
    """

    tenant: str
    key: str
    name: str
    role: Role
    scope: Scope = WHOLE_SCOPE
    tenant_models: tuple[str, ...] = EVERY_MODEL
    expires_at: float | None = None

    @property
    def is_expired(self) -> bool:
        """Whether its time is up."""
        return self.expires_at is not None and time.time() >= self.expires_at

    def may(self, verb: Verb, model: str | None = None) -> bool:
        """Whether it may do this, and to this model where one is named."""
        kept = self.scope.verbs
        return (
            verb in VERBS[self.role]
            and (kept is None or verb in kept)
            and (model is None or self.sees(model))
        )

    def sees(self, model: str) -> bool:
        """Whether a model is within both its tenant's and its own patterns."""
        return matches(model, self.tenant_models) and matches(model, self.scope.models)

    def check(self, verb: Verb, model: str | None = None) -> None:
        """Raise `Denied` where it may not."""
        if not self.may(verb, model):
            raise denied(self, verb, model)


def matches(name: str, patterns: Sequence[str]) -> bool:
    """Whether one of the shell patterns fits a name; case counts."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def denied(principal: Principal, verb: Verb, model: str | None = None) -> Denied:
    """What somebody hears who may not; the same for a model that is not there."""
    if model is None or not Principal.may(principal, verb):
        return Denied(
            "not_allowed",
            f"'{principal.name}' has the role {principal.role} and may not {verb} here; "
            "ask an administrator for a key that may",
        )
    return Denied(
        "model_not_allowed",
        f"'{principal.name}' may not {verb} '{model:.140}'; "
        "ask an administrator for a key whose scope has it",
        field="model",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A client certificate that the TLS handshake has verified: its subject and fingerprint."""

    subject: str
    """RFC 4514, as `CN=scorer,O=acme`."""
    sha256: str
    names: tuple[str, ...] = ()
    """Subject alternative names."""
    expires_at: float | None = None
    """In Unix seconds: a connection may outlive it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end of a connection, as its socket says it and no header does."""

    address: str
    """IP address, or `unix`."""
    certificate: Certificate | None = None


UNKNOWN_PEER: Final = Peer(address="unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who changes something, from where, and by which request; for the audit."""

    name: str
    key: str = ""
    tenant: str = ""
    source: str = ""
    """Address of the caller, or `local` for a command on the machine itself."""
    request_id: str = ""


def as_actor(who: "str | Actor") -> Actor:
    """An actor; a plain name is one of whom nothing more is known."""
    return who if isinstance(who, Actor) else Actor(name=who)
