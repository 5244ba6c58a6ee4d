"""The application's guard: every route says what it asks for, and what says nothing is closed."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

from litestar.connection import ASGIConnection
from litestar.handlers.base import BaseRouteHandler

from modelyard.api.asks import Asks, actor_of, admitted, request_id_of
from modelyard.api.http.surroundings import PEER
from modelyard.core.errors import Denied
from modelyard.core.identity import UNKNOWN_PEER, Actor, Peer, Verb
from modelyard.core.ports import Access, Headers

ASKS: Final = "asks"
"""The option of a handler that says what it asks for: a `Verb`, or `PUBLIC`."""
_REQUEST_ID: Final = "modelyard.request_id"
_AGAIN: Final = "modelyard.ask_again"

_CHANGING: Final = frozenset({Verb.DEPLOY, Verb.ADMIN})

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
        asks = handler.opt.get(ASKS)
        headers = headers_of(connection)
        model = connection.path_params.get("model")
        peer = peer_of(connection)
        caller = admitted(access, asks, headers, peer, model)
        if asks in _CHANGING and not caller.principal.key and b"origin" in headers:
            # A page in this machine's browser sends this, and can reach an open server too.
            raise Denied("from_a_page", "a web page changes nothing here without a key")
        scope: Any = connection.scope
        scope["user"] = caller
        scope[_AGAIN] = partial(admitted, access, asks, headers, peer, model)

    return let_in


def ask_again(connection: AnyConnection) -> None:
    """Ask the same as of now, when a body has been read: a key may have been revoked meanwhile."""
    scope: Any = connection.scope
    scope["user"] = scope[_AGAIN]()


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


def path_of(connection: AnyConnection) -> str:
    """The path of a request. Its URL is made of the `Host` header too, which may say anything."""
    path: str = connection.scope["path"]
    return path


def acting(connection: AnyConnection) -> Actor:
    """Who changes something by this request, for the audit."""
    return actor_of(connection.user, peer_of(connection), request_id(connection))


def request_id(connection: AnyConnection) -> str:
    """The id of a request, the same for its answer, its audit and the log."""
    return id_of_scope(connection.scope)


def id_of_scope(scope: Any) -> str:
    """`request_id`, for who has only the scope."""
    found: str | None = scope.get(_REQUEST_ID)
    if found is None:
        found = scope[_REQUEST_ID] = request_id_of(dict(scope["headers"]))
    return found
