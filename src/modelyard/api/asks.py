"""What every route and every RPC asks of its caller, and who the caller is to what it changes."""

import os
import re
from enum import Enum
from typing import Final

from modelyard.core.errors import Denied, Unauthenticated
from modelyard.core.identity import Actor, Peer, Principal, Role, Scope, Verb
from modelyard.core.ports import Access, Caller, Exchange, Headers, Listing, Permit

REQUEST_ID: Final = b"x-request-id"
"""The header, or gRPC metadata, by which a caller names its request."""
_CLEAN: Final = re.compile(rb"[!-~]{1,128}")


class Public(Enum):
    """The one alternative to a verb: anybody may, with or without a key."""

    PUBLIC = "public"


PUBLIC: Final = Public.PUBLIC
Asks = Verb | Public
"""What a route or an RPC asks for. One that does not say is closed to everybody."""


class Nobody:
    """The caller of what is public: may nothing beside, and sees no model."""

    principal = Principal(
        tenant="", key="", name="nobody", role=Role.CALLER, scope=Scope(models=())
    )

    def check(self, verb: Verb, model: str | None = None) -> None:
        """Raise `Unauthenticated`."""
        raise Unauthenticated("key_needed", "this needs a key; send 'Authorization: Bearer KEY'")

    def permit(self, model: str) -> Permit:
        """Raise `Unauthenticated`."""
        raise Unauthenticated("key_needed", "this needs a key; send 'Authorization: Bearer KEY'")


NOBODY: Final = Nobody()


def admitted(
    access: Access,
    asks: Asks | None,
    headers: Headers,
    peer: Peer,
    model: str | None = None,
) -> Caller:
    """The caller who may do what is asked for, to the model that is named; raises as `Access`.

    What does not declare what it asks for is closed to everybody.
    """
    if asks is PUBLIC:
        return NOBODY
    caller = access.identify(headers, peer)
    if asks is None:
        raise Denied("closed", "this is open to nobody")
    caller.check(asks, model)
    return caller


def seen_listings(exchange: Exchange, principal: Principal) -> list[Listing]:
    """The versions of those models that somebody may know of."""
    return [line for line in exchange.listings() if principal.sees(line.model)]


def request_id_of(headers: Headers) -> str:
    """The id that a caller gave its request, if it is short and clean; else one of our own."""
    given = headers.get(REQUEST_ID, b"")
    return given.decode("ascii") if _CLEAN.fullmatch(given) else os.urandom(12).hex()


def actor_of(caller: Caller, peer: Peer, request_id: str) -> Actor:
    """Who changes something, for the audit."""
    principal = caller.principal
    return Actor(
        name=principal.name,
        key=principal.key,
        tenant=principal.tenant,
        source=peer.address,
        request_id=request_id,
    )
