"""The model repository extension: what is deployed here, and changes of it."""

from litestar import HttpMethod, Response, post, route
from litestar.handlers import HTTPRouteHandler

from modelyard.api.asks import seen_listings
from modelyard.api.http.guard import CALL, acting, ask_again, asking, path_of
from modelyard.api.http.handlers.desk import AnyRequest, Desk, json_response, read_object
from modelyard.api.http.metadata import repository_index
from modelyard.api.refusals import no_operations, refuse_load_parameters
from modelyard.core.identity import Verb


def repository_handlers(desk: Desk) -> list[HTTPRouteHandler]:
    """Index, load, unload."""

    @route(
        "/v2/repository/index",
        http_method=[HttpMethod.GET, HttpMethod.POST],
        status_code=200,
        opt=CALL,
    )
    async def index(request: AnyRequest) -> Response[bytes]:
        wishes = read_object(await request.body())
        ask_again(request)
        lines = seen_listings(desk.exchange, request.user.principal)
        return json_response(repository_index(lines, only_ready=wishes.get("ready") is True))

    @post(
        [
            "/v2/repository/models/{model:str}/load",
            "/v2/repository/models/{model:str}/unload",
        ],
        status_code=200,
        opt=asking(Verb.DEPLOY),
    )
    async def changing(request: AnyRequest) -> Response[bytes]:
        model = request.path_params["model"]
        operations = desk.operations
        if operations is None:
            raise no_operations()
        parameters = read_object(await request.body()).get("parameters")
        ask_again(request)
        refuse_load_parameters(parameters if isinstance(parameters, dict) else {})
        change = (
            operations.load if path_of(request).rstrip("/").endswith("/load") else operations.unload
        )
        await change(model, acting(request))
        return json_response({})

    return [index, changing]
