"""Open access: everybody is the same caller, who may call models and read, and nothing else."""

from dataclasses import dataclass
from typing import Final

from modelyard.core.errors import Unauthenticated
from modelyard.core.identity import DEFAULT_TENANT, Peer, Principal, Role, Scope, Verb
from modelyard.core.ports import Access, Caller, Headers

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
    """For a server that only this machine can reach, and that was told to be open.

    Who gives a key is known by it, as `known` says: administration needs one here too. A key that
    is given must be good, so that nobody takes a wrong one for right.
    """

    is_open = True

    def __init__(self, known: Access | None = None) -> None:
        self._known = known

    def identify(self, headers: Headers, peer: Peer) -> Caller:
        """Anybody, or whose key it is."""
        known = self._known
        if known is not None and (b"authorization" in headers or b"x-api-key" in headers):
            return known.identify(headers, peer)
        return _CALLER
