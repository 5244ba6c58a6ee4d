"""A handler for every operation that travels as JSON."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar

from litestar import HttpMethod, MediaType, Request, Response, Router, route
from litestar.connection import ASGIConnection
from litestar.handlers import HTTPRouteHandler
from litestar.handlers.base import BaseRouteHandler

from modelyard.api.admin.answers import Conditions, encode, etag_of, has_etag, location_of
from modelyard.api.admin.document import document
from modelyard.api.admin.problems import check_key
from modelyard.api.admin.repeats import Repeatable
from modelyard.api.admin.requests import read_request
from modelyard.api.http.guard import acting, ask_again, asking, headers_of, path_of
from modelyard.core.administration.operation import Body, Operation, model_of
from modelyard.core.administration.operation import Request as Asked
from modelyard.core.administration.paths import DOCUMENT, PREFIX
from modelyard.core.administration.port import Administration, Reception
from modelyard.core.administration.table import OPERATIONS
from modelyard.core.errors import Exhausted, NotFound
from modelyard.core.identity import Actor, Verb
from modelyard.core.ports import Caller, Headers

_P = ParamSpec("_P")
_T = TypeVar("_T")
AnyRequest = Request[Any, Any, Any]
_LONGEST_BODY: Final = 1024 * 1024
_THREADS: Final = 8


class Office:
    """What handlers share: who does what is asked, and the threads in which it is done.

    Threads of their own, and others for what waits for servers or reads whole bundles: a key can
    be revoked while many do that.
    """

    def __init__(self, reception: Reception, version: str) -> None:
        self.reception = reception
        self.version = version
        self._threads = ThreadPoolExecutor(_THREADS, "modelyard administration")
        self._slow_threads = ThreadPoolExecutor(_THREADS, "modelyard slow administration")

    async def run(self, work: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
        """Do what blocks, off the loop."""
        return await _run(self._threads, partial(work, *given, **named))

    async def run_slow(self, work: Callable[_P, _T], *given: _P.args, **named: _P.kwargs) -> _T:
        """Do what may take minutes, or waits for a disk or for somebody else."""
        return await _run(self._slow_threads, partial(work, *given, **named))


async def _run(threads: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(threads, work)


@dataclass(frozen=True, slots=True)
class Visit:
    """One request: who asks, and the headers that it came with."""

    caller: Caller
    actor: Actor
    headers: Headers

    @staticmethod
    def of(request: AnyRequest) -> "Visit":
        """That of a request that the guards have let in."""
        return Visit(request.user, acting(request), headers_of(request))

    def header(self, name: str) -> str:
        """A header's text; empty where it is not there."""
        return self.headers.get(name.encode(), b"").decode("latin-1")

    def administration(self, reception: Reception) -> Administration:
        """The administration, for who asks."""
        return reception.on_behalf_of(self.caller.principal, self.actor)

    @property
    def conditions(self) -> Conditions:
        """What must hold for it to be done."""
        return Conditions.read(self.header("if-match"), self.header("if-none-match"))

    @property
    def repeatable(self) -> Repeatable | None:
        """The key by which a repeat is known; None where none was given."""
        key = self.header("idempotency-key")
        if not key:
            return None
        credential = self.headers.get(b"authorization", b"") + self.headers.get(b"x-api-key", b"")
        return Repeatable(self.caller.principal, key, credential)


def admin_router(office: Office) -> Router:
    """Everything at `/api/v1`. Nothing of it is done for who has no key, on an open server too."""
    from modelyard.api.admin.transfers import transfer_handlers

    json_operations = (
        each for each in OPERATIONS if each.takes is Body.JSON and each.gives is Body.JSON
    )
    return Router(
        PREFIX,
        route_handlers=[
            _document_handler(office),
            *(_handler(office, each) for each in json_operations),
            *transfer_handlers(office),
            _nothing_else(),
        ],
        guards=[_needs_key],
    )


async def _needs_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    check_key(connection.user)


def _handler(office: Office, operation: Operation) -> HTTPRouteHandler:
    @route(
        typed_path(operation),
        http_method=[HttpMethod(operation.method)],
        status_code=operation.status,
        opt=asking(operation.verb),
        name=operation.name,
    )
    async def handle(request: AnyRequest) -> Response[bytes]:
        body = await read_body(request)
        visit = Visit.of(request)
        asked = read_request(
            operation.request,
            request.path_params,
            request.query_params.multi_items(),
            visit.header("content-type"),
            body,
        )
        visit.caller.check(operation.verb, model_of(asked))
        run = office.run_slow if operation.is_slow else office.run
        return await run(_change if operation.changes else _read, office, operation, asked, visit)

    return handle


def _read(office: Office, operation: Operation, asked: Asked[Any], visit: Visit) -> Response[bytes]:
    body = encode(visit.administration(office.reception).do(asked))
    etag = etag_of(body)
    if operation.method == "GET" and visit.conditions.is_known(etag):
        return Response(b"", status_code=304, headers=_headers(visit, etag))
    return answered(operation, body, visit)


def _change(
    office: Office, operation: Operation, asked: Asked[Any], visit: Visit
) -> Response[bytes]:
    administration, conditions = visit.administration(office.reception), visit.conditions

    def perform() -> bytes:
        conditions.check(operation, asked, administration.do)
        return encode(administration.do(asked))

    repeatable = visit.repeatable
    if repeatable is not None and operation.once:
        content = encode(asked) + encode([conditions.match, conditions.none_match])
        body, again = repeatable.answer(office.reception, operation, content, perform)
        return answered(operation, body, visit, again=again)
    if conditions:
        with office.reception.together():
            return answered(operation, perform(), visit)
    return answered(operation, perform(), visit)


def answered(
    operation: Operation, body: bytes, visit: Visit, *, again: bool = False
) -> Response[bytes]:
    """A good answer."""
    headers = _headers(visit, etag_of(body) if has_etag(operation) else "")
    location = location_of(operation, body)
    if location:
        headers["location"] = location
    if again:
        headers["idempotency-replayed"] = "true"
    return Response(body, status_code=operation.status, media_type=MediaType.JSON, headers=headers)


def _headers(visit: Visit, etag: str) -> dict[str, str]:
    headers = {"cache-control": "no-store", "x-request-id": visit.actor.request_id}
    if etag:
        headers["etag"] = etag
    return headers


def typed_path(operation: Operation) -> str:
    """The path as Litestar writes it."""
    return operation.path.replace("}", ":str}")


async def read_body(request: AnyRequest) -> bytes:
    """The whole body; raises `Exhausted` for one that is too large, and as access does for a caller
    who is not let in any more when it has come."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _LONGEST_BODY:
            raise Exhausted(
                "body_too_large", f"the body is larger than {_LONGEST_BODY} bytes", field="body"
            )
    ask_again(request)
    check_key(request.user)
    return bytes(body)


def _document_handler(office: Office) -> HTTPRouteHandler:
    @route(
        DOCUMENT.removeprefix(PREFIX),
        http_method=[HttpMethod.GET],
        opt=asking(Verb.READ),
        sync_to_thread=False,
    )
    def openapi(request: AnyRequest) -> Response[bytes]:
        return Response(
            encode(document(office.version)),
            media_type=MediaType.JSON,
            headers=_headers(Visit.of(request), ""),
        )

    return openapi


def _nothing_else() -> HTTPRouteHandler:
    @route(
        "/{rest:path}",
        http_method=list(HttpMethod),
        status_code=404,
        opt=asking(Verb.READ),
        sync_to_thread=False,
    )
    def nothing(request: AnyRequest) -> None:
        raise NotFound(
            "unknown_path", f"there is nothing at {path_of(request):.200}; see {DOCUMENT}"
        )

    return nothing
