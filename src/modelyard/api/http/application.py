"""Everything outside the inference path: metadata, the index, the OpenAPI document, the first page.

A Litestar application. Importing it costs some hundred milliseconds, so the server does so only
when the first request for it comes.
"""

import logging
from typing import Any, Final

import orjson
from litestar import HttpMethod, Litestar, MediaType, Request, Response, get, route
from litestar.exceptions import HTTPException, MethodNotAllowedException

from modelyard.api.http.errors import error_body, status_of
from modelyard.api.http.metadata import model_metadata, repository_index, server_metadata
from modelyard.api.http.openapi import document
from modelyard.api.http.welcome import page
from modelyard.core.errors import Internal, Invalid, ModelyardError, NotFound, Unavailable
from modelyard.core.ports import Exchange, Served

_log = logging.getLogger(__name__)
_Request = Request[Any, Any, Any]
_HEALTH: Final = ["/v2/health/live", "/v2/health/ready"]


def make_application(exchange: Exchange, version: str) -> Litestar:
    """The application over an exchange. Its handlers run on the event loop and never wait."""

    def _served(request: _Request) -> Served:
        return exchange.find(request.path_params["model"], request.path_params.get("number"))

    @get("/v2", sync_to_thread=False)
    def server() -> Response[bytes]:
        return _json(server_metadata(version))

    @get(
        [
            "/v2/models/{model:str}",
            "/v2/models/{model:str}/versions/{number:str}",
        ],
        sync_to_thread=False,
    )
    def metadata(request: _Request) -> Response[bytes]:
        return _json(model_metadata(_served(request)))

    @get(
        [
            "/v2/models/{model:str}/ready",
            "/v2/models/{model:str}/versions/{number:str}/ready",
        ],
        sync_to_thread=False,
    )
    def ready(request: _Request) -> Response[bytes]:
        _served(request)
        return _json({"ready": True})

    # GET of the health paths is answered by the protocol class, and never comes here.
    @route(
        _HEALTH,
        http_method=[each for each in HttpMethod if each is not HttpMethod.GET],
        status_code=200,
        sync_to_thread=False,
    )
    def health(request: _Request) -> None:
        if request.method != HttpMethod.HEAD:
            raise MethodNotAllowedException(headers={"Allow": "GET, HEAD"})
        if request.url.path.endswith("/ready") and not exchange.is_ready():
            raise Unavailable("not_ready", "not every deployed model answers; see the index")

    @route(
        "/v2/repository/index",
        http_method=[HttpMethod.GET, HttpMethod.POST],
        status_code=200,
        sync_to_thread=False,
    )
    def index() -> Response[bytes]:
        return _json(repository_index(exchange))

    @get("/v1/models", sync_to_thread=False)
    def v1_models() -> Response[bytes]:
        return _json({"models": [line.model for line in exchange.listings() if line.ready]})

    @get("/v1/models/{model:str}", sync_to_thread=False)
    def v1_status(request: _Request) -> Response[bytes]:
        return _json({"name": _served(request).model, "ready": True})

    @get("/openapi.json", sync_to_thread=False)
    def openapi() -> Response[bytes]:
        return _json(document(exchange, version))

    @get("/", sync_to_thread=False)
    def welcome(request: _Request) -> Response[str]:
        base_url = str(request.base_url).rstrip("/")
        return Response(
            page(exchange, base_url),
            media_type=MediaType.HTML,
            headers={
                "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
                "x-content-type-options": "nosniff",
                "referrer-policy": "no-referrer",
            },
        )

    return Litestar(
        [server, metadata, ready, health, index, v1_models, v1_status, openapi, welcome],
        openapi_config=None,
        logging_config=None,
        exception_handlers={Exception: _answer_error},
    )


def _json(content: object) -> Response[bytes]:
    return Response(orjson.dumps(content), media_type=MediaType.JSON)


def _answer_error(request: _Request, error: Exception) -> Response[bytes]:
    ours = _as_ours(request, error)
    headers = {}
    if isinstance(error, HTTPException) and error.headers:
        headers = {name: value for name, value in error.headers.items() if name.lower() == "allow"}
    return Response(
        error_body(ours),
        status_code=status_of(ours),
        media_type=MediaType.JSON,
        headers=headers,
    )


def _as_ours(request: _Request, error: Exception) -> ModelyardError:
    if isinstance(error, ModelyardError):
        return error
    path = request.url.path
    if isinstance(error, MethodNotAllowedException):
        return Invalid("method_not_allowed", f"{path:.200} does not take {request.method}")
    if isinstance(error, HTTPException):
        if error.status_code == 404:
            return NotFound("unknown_path", f"there is nothing at {path:.200}; see /openapi.json")
        if error.status_code < 500:
            return Invalid("bad_request", error.detail)
    _log.error("%s %s failed", request.method, path, exc_info=error)
    return Internal("internal", "the server failed on this request; see its log")
