"""Everything outside the inference path: metadata, the index, the OpenAPI document, the first page.

A Litestar application. Importing it costs some hundred milliseconds, so the server does so only
when the first request for it comes.
"""

import logging
from typing import Any

import orjson
from litestar import HttpMethod, Litestar, MediaType, Request, Response, get, post, route
from litestar.exceptions import HTTPException, MethodNotAllowedException

from modelyard.api.http.contracts import (
    INVOCATIONS,
    LIVE,
    NO_CLOUD,
    READY,
    SCORE,
    Contracts,
)
from modelyard.api.http.errors import error_body, status_of
from modelyard.api.http.metadata import (
    model_metadata,
    repository_index,
    server_metadata,
    v1_status,
)
from modelyard.api.http.openapi import document
from modelyard.api.http.triton import model_config, model_stats
from modelyard.api.http.welcome import page
from modelyard.api.refusals import not_generative, refuse_change, refuse_load_parameters
from modelyard.core.errors import Internal, Invalid, ModelyardError, NotFound, Unavailable
from modelyard.core.ports import Exchange, Operations, Served

_log = logging.getLogger(__name__)
_Request = Request[Any, Any, Any]


def make_application(
    exchange: Exchange,
    version: str,
    operations: Operations | None = None,
    *,
    may_change: bool = False,
    contracts: Contracts = NO_CLOUD,
) -> Litestar:
    """The application over an exchange. Its handlers run on the event loop.

    Only those that bring a request to `operations` wait.
    """

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
        sorted(path.decode() for path in (LIVE, READY, *contracts.ready_paths)),
        http_method=[each for each in HttpMethod if each is not HttpMethod.GET],
        status_code=200,
        sync_to_thread=False,
    )
    def health(request: _Request) -> None:
        if request.method != HttpMethod.HEAD:
            raise MethodNotAllowedException(headers={"Allow": "GET, HEAD"})
        if request.url.path != LIVE.decode() and not exchange.is_ready():
            raise Unavailable("not_ready", "not every deployed model answers; see the index")

    @route(
        "/v2/repository/index",
        http_method=[HttpMethod.GET, HttpMethod.POST],
        status_code=200,
    )
    async def index(request: _Request) -> Response[bytes]:
        wishes = _object(await request.body())
        return _json(repository_index(exchange, only_ready=wishes.get("ready") is True))

    @get(
        [
            "/v2/models/stats",
            "/v2/models/{model:str}/stats",
            "/v2/models/{model:str}/versions/{number:str}/stats",
        ]
    )
    async def stats(request: _Request) -> Response[bytes]:
        if operations is None:
            raise Unavailable("no_statistics", "this server keeps no statistics")
        named = request.path_params
        return _json(
            model_stats(await operations.statistics(named.get("model"), named.get("number")))
        )

    @get(
        [
            "/v2/models/{model:str}/config",
            "/v2/models/{model:str}/versions/{number:str}/config",
        ],
        sync_to_thread=False,
    )
    def config(request: _Request) -> Response[bytes]:
        return _json(model_config(_served(request)))

    @post(
        [
            "/v2/repository/models/{model:str}/load",
            "/v2/repository/models/{model:str}/unload",
        ],
        status_code=200,
    )
    async def change(request: _Request) -> Response[bytes]:
        model = request.path_params["model"]
        if operations is None or not may_change:
            raise refuse_change(model)
        parameters = _object(await request.body()).get("parameters")
        refuse_load_parameters(parameters if isinstance(parameters, dict) else {})
        is_load = request.url.path.endswith("/load")
        await (operations.load(model) if is_load else operations.unload(model))
        return _json({})

    @post(
        [
            f"/v2/models/{{model:str}}{version}/{verb}"
            for version in ("", "/versions/{number:str}")
            for verb in ("generate", "generate_stream")
        ],
        sync_to_thread=False,
    )
    def generate(request: _Request) -> None:
        raise not_generative(_served(request).model)

    @post(
        ["/v1/models/{model:str}", "/v1/models/{model:str}/versions/{number:str}"],
        sync_to_thread=False,
    )
    def v1_verb(request: _Request) -> None:
        raise _no_v1_verb(request.url.path)

    @route(
        [INVOCATIONS, SCORE],
        http_method=[each for each in HttpMethod if each is not HttpMethod.POST],
        sync_to_thread=False,
    )
    def only_post() -> None:
        raise MethodNotAllowedException(headers={"Allow": "POST"})

    @get("/v1/models", sync_to_thread=False)
    def v1_models() -> Response[bytes]:
        # A model with a canary has a line for each of its versions.
        ready = dict.fromkeys(line.model for line in exchange.listings() if line.ready)
        return _json({"models": list(ready)})

    @get(
        ["/v1/models/{model:str}", "/v1/models/{model:str}/versions/{number:str}"],
        sync_to_thread=False,
    )
    def v1_model(request: _Request) -> Response[bytes]:
        number = request.path_params.get("number")
        return _json(v1_status(exchange, _served(request), number))

    # Azure ML looks for the document under its older name.
    @get(["/openapi.json", "/swagger.json"], sync_to_thread=False)
    def openapi(request: _Request) -> Response[bytes]:
        if request.query_params.get("version", "3").partition(".")[0] != "3":
            raise NotFound("unknown_version", "this document follows OpenAPI 3", field="version")
        return _json(document(exchange, version, contracts))

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
        [
            server,
            metadata,
            config,
            stats,
            ready,
            health,
            index,
            change,
            generate,
            v1_models,
            v1_model,
            v1_verb,
            only_post,
            openapi,
            welcome,
        ],
        openapi_config=None,
        logging_config=None,
        exception_handlers={Exception: _answer_error},
    )


def _object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body that may be empty; raises `Invalid`."""
    if not body:
        return {}
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Invalid("not_json", f"the body is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise Invalid("bad_request", "the body is no object")
    return content


def _no_v1_verb(path: str) -> ModelyardError:
    verb = path.rpartition(":")[2] if ":" in path else ""
    if verb == "explain":
        return Invalid(
            "not_implemented", "explanations are not served yet; call ':predict'", field="verb"
        )
    if verb in ("classify", "regress"):
        return Invalid(
            "not_implemented",
            f"'{verb}' takes TensorFlow's Examples, which are not served; call ':predict'",
            field="verb",
        )
    return NotFound("unknown_path", f"there is nothing at {path:.200}; see /openapi.json")


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
