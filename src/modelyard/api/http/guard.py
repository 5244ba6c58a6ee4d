"""The application's guard: every route says what it asks for, and what says nothing is closed."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from modelyard.api.asks import Asks, actor_of, admitted, request_id_of
from modelyard.api.http.surroundings import PEER
from modelyard.core.identity import UNKNOWN_PEER, Actor, Peer, Verb
from modelyard.core.ports import Access, Headers

ASKS: Final = "asks"
"""The option of a handler that says what it asks for: a `Verb`, or `PUBLIC`."""

AnyConnection = ASGIConnection[Any, Any, Any, Any]
Guard = Callable[[AnyConnection, BaseRouteHandler], Awaitable[None]]


def asking(asks: Asks) -> dict[str, Any]:
    """The options of a handler that asks for this: `@get(path, opt=asking(Verb.CALL))`."""
    return {ASKS: asks}


CALL: Final = asking(Verb.CALL)


def guard_of(access: Access) -> Guard:
    """The one guard of an application. The caller whom it lets in is the request's `user`.

    It is asked when the path has been dispatched: what a path means to access is what it means to
    its handler. A model that the path names as `model` is part of what is asked.
    """

    async def let_in(connection: AnyConnection, handler: BaseRouteHandler) -> None:
        connection.scope["user"] = admitted(
            access,
            handler.opt.get(ASKS),
            headers_of(connection),
            peer_of(connection),
            connection.path_params.get("model"),
        )

    return let_in


def is_let_in(connection: AnyConnection) -> bool:
    """Whether the guard has been asked, and has let this request in."""
    return "user" in connection.scope


def headers_of(connection: AnyConnection) -> Headers:
    """The headers of a request, of a repeated one the last, as everywhere."""
    return dict(connection.scope["headers"])


def peer_of(connection: AnyConnection) -> Peer:
    """The other end of the request's connection."""
    extensions: Any = connection.scope.get("extensions") or {}
    peer: Peer = extensions.get(PEER, {}).get("peer", UNKNOWN_PEER)
    return peer


def acting(connection: AnyConnection) -> Actor:
    """Who changes something by this request, for the audit."""
    return actor_of(connection.user, peer_of(connection), request_id_of(headers_of(connection)))
