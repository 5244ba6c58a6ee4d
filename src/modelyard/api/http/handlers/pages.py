"""What a visitor looks at, and paths that take one method only."""

from litestar import HttpMethod, MediaType, Response, get, route
from litestar.exceptions import MethodNotAllowedException
from litestar.handlers import HTTPRouteHandler

from modelyard.api.asks import PUBLIC, seen_listings
from modelyard.api.http.contracts import INVOCATIONS, LIVE, READY, SCORE
from modelyard.api.http.guard import CALL, asking, path_of
from modelyard.api.http.handlers.desk import AnyRequest, Desk, json_response
from modelyard.api.http.manners import PAGE_HEADERS
from modelyard.api.http.openapi import document
from modelyard.api.http.welcome import page
from modelyard.core.errors import Invalid, NotFound, Unavailable


def page_handlers(desk: Desk) -> list[HTTPRouteHandler]:
    """The first page and the OpenAPI document; HEAD of health paths; wrong methods."""

    # Azure ML looks for the document under its older name.
    @get(["/openapi.json", "/swagger.json"], sync_to_thread=False, opt=CALL)
    def openapi(request: AnyRequest) -> Response[bytes]:
        if request.query_params.get("version", "3").partition(".")[0] != "3":
            raise NotFound("unknown_version", "this document follows OpenAPI 3", field="version")
        return json_response(
            document(
                desk.exchange,
                desk.version,
                request.user.principal,
                desk.contracts,
                is_open=desk.is_open,
            )
        )

    @get("/", sync_to_thread=False, opt=CALL)
    def welcome(request: AnyRequest) -> Response[str]:
        try:
            base_url = str(request.base_url).rstrip("/")
        except ValueError:
            raise Invalid("bad_host", "the Host header names no host", field="Host") from None
        return Response(
            page(desk.exchange, seen_listings(desk.exchange, request.user.principal), base_url),
            media_type=MediaType.HTML,
            headers=PAGE_HEADERS,
        )

    # GET of the health paths is answered by the protocol class, and never comes here.
    @route(
        sorted(path.decode() for path in (LIVE, READY, *desk.contracts.ready_paths)),
        http_method=[each for each in HttpMethod if each is not HttpMethod.GET],
        status_code=200,
        sync_to_thread=False,
        opt=asking(PUBLIC),
    )
    def health(request: AnyRequest) -> None:
        if request.method != HttpMethod.HEAD:
            raise MethodNotAllowedException(headers={"Allow": "GET, HEAD"})
        if path_of(request) != LIVE.decode() and not desk.exchange.is_ready():
            raise Unavailable("not_ready", "not every deployed model answers; see the index")

    @route(
        [INVOCATIONS, SCORE],
        http_method=[each for each in HttpMethod if each is not HttpMethod.POST],
        sync_to_thread=False,
        opt=CALL,
    )
    def only_post() -> None:
        raise MethodNotAllowedException(headers={"Allow": "POST"})

    return [openapi, welcome, health, only_post]
