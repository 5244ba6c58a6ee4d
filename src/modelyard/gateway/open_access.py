"""Open access: everybody is the same caller, who may call models and read, and nothing else."""

from dataclasses import dataclass
from typing import Final

from modelyard.core.errors import Unauthenticated
from modelyard.core.identity import DEFAULT_TENANT, Peer, Principal, Role, Scope, Verb
from modelyard.core.ports import Headers

ANYBODY: Final = Principal(
    tenant=DEFAULT_TENANT,
    key="",
    name="anybody",
    role=Role.DEPLOYER,
    scope=Scope(verbs=frozenset({Verb.CALL, Verb.READ, Verb.DEPLOY})),
)


@dataclass(frozen=True, slots=True)
class OpenPermit:
    """Leave to call any model."""

    tenant: str = ANYBODY.tenant
    key: str = ANYBODY.key


_PERMIT: Final = OpenPermit()


class OpenCaller:
    """Anybody."""

    principal = ANYBODY

    def check(self, verb: Verb, model: str | None = None) -> None:
        """Raise `Unauthenticated` for what nobody may do without a key."""
        if verb in (Verb.AUDIT, Verb.ADMIN):
            raise Unauthenticated(
                "key_needed", "this server is open for calls, but this needs a key that may"
            )

    def permit(self, model: str) -> OpenPermit:
        """Leave to call a model."""
        return _PERMIT


_CALLER: Final = OpenCaller()


class OpenAccess:
    """For a server that only this machine can reach, and that was told to be open."""

    is_open = True

    def identify(self, headers: Headers, peer: Peer) -> OpenCaller:
        """Anybody."""
        return _CALLER
