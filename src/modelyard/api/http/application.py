"""Everything outside the inference path: metadata, the index, the OpenAPI document, the first page.

A Litestar application. Importing it costs some hundred milliseconds, so the server does so only
when the first request for it comes.
"""

import logging
from functools import partial

from litestar import Litestar, MediaType, Response, Router
from litestar.exceptions import HTTPException, MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler

from modelyard.api.admin.handlers import Office, admin_router
from modelyard.api.admin.problems import check_key, problem
from modelyard.api.http.contracts import NO_CLOUD, Contracts
from modelyard.api.http.errors import error_body, error_headers, status_of
from modelyard.api.http.guard import (
    guard_of,
    headers_of,
    is_let_in,
    path_of,
    peer_of,
    request_id,
)
from modelyard.api.http.handlers.desk import AnyRequest, Desk
from modelyard.api.http.handlers.oip import oip_handlers
from modelyard.api.http.handlers.pages import page_handlers
from modelyard.api.http.handlers.repository import repository_handlers
from modelyard.api.http.handlers.v1 import v1_handlers
from modelyard.api.http.manners import add_headers
from modelyard.core.administration.paths import is_administration
from modelyard.core.administration.port import Reception
from modelyard.core.errors import Internal, Invalid, Kind, ModelyardError, NotFound
from modelyard.core.ports import Access, Exchange, Operations

_log = logging.getLogger(__name__)


def make_application(
    exchange: Exchange,
    access: Access,
    version: str,
    operations: Operations | None = None,
    *,
    contracts: Contracts = NO_CLOUD,
    administration: Reception | None = None,
) -> Litestar:
    """The application over an exchange. Its handlers run on the event loop.

    Only those that bring a request to `operations` or to the administration wait.
    """
    desk = Desk(
        exchange=exchange,
        operations=operations,
        contracts=contracts,
        is_open=access.is_open,
        version=version,
    )
    families = (oip_handlers, repository_handlers, v1_handlers, page_handlers)
    handlers: list[HTTPRouteHandler | Router] = [
        handler for family in families for handler in family(desk)
    ]
    if administration is not None:
        handlers.append(admin_router(Office(administration, version)))
    return Litestar(
        handlers,
        openapi_config=None,
        logging_config=None,
        guards=[guard_of(access)],
        before_send=[add_headers],
        exception_handlers={Exception: partial(_answer_error, access)},
    )


def _answer_error(access: Access, request: AnyRequest, error: Exception) -> Response[bytes]:
    ours = _as_ours(request, error)
    headers = {}
    is_refused = ours.kind is not Kind.UNAUTHENTICATED and not is_let_in(request)
    if is_refused and (isinstance(error, HTTPException) or is_administration(path_of(request))):
        # Where nothing was dispatched to, who has no key hears only that.
        ours = _refusal(access, request) or ours
    if isinstance(error, HTTPException):
        given = error.headers or {}
        headers = {name: value for name, value in given.items() if name.lower() == "allow"}
    if is_administration(path_of(request)):
        return problem(ours, path_of(request), request_id(request), headers)
    headers |= error_headers(ours)
    return Response(
        error_body(ours),
        status_code=status_of(ours),
        media_type=MediaType.JSON,
        headers=headers,
    )


def _refusal(access: Access, request: AnyRequest) -> ModelyardError | None:
    try:
        caller = access.identify(headers_of(request), peer_of(request))
        if is_administration(path_of(request)):
            check_key(caller)
    except ModelyardError as refusal:
        return refusal
    return None


def _as_ours(request: AnyRequest, error: Exception) -> ModelyardError:
    if isinstance(error, ModelyardError):
        return error
    path = path_of(request)
    if isinstance(error, MethodNotAllowedException):
        return Invalid("method_not_allowed", f"{path:.200} does not take {request.method}")
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return NotFound("unknown_path", f"there is nothing at {path:.200}; see /openapi.json")
        if error.status_code < 500:
            return Invalid("bad_request", error.detail)
    _log.error("request %s: %s failed", request_id(request), request.method, exc_info=error)
    return Internal(
        "internal",
        f"the server failed on this request; its log has the reason under {request_id(request)}",
    )
