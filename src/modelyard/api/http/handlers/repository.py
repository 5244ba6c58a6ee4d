"""The model repository extension: what is deployed here, and changes of it."""

from litestar import HttpMethod, Response, post, route
from litestar.handlers import HTTPRouteHandler

from modelyard.api.http.handlers.desk import AnyRequest, Desk, json_response, read_object
from modelyard.api.http.metadata import repository_index
from modelyard.api.refusals import refuse_change, refuse_load_parameters


def repository_handlers(desk: Desk) -> list[HTTPRouteHandler]:
    """Index, load, unload."""

    @route("/v2/repository/index", http_method=[HttpMethod.GET, HttpMethod.POST], status_code=200)
    async def index(request: AnyRequest) -> Response[bytes]:
        wishes = read_object(await request.body())
        return json_response(
            repository_index(desk.exchange, only_ready=wishes.get("ready") is True)
        )

    @post(
        [
            "/v2/repository/models/{model:str}/load",
            "/v2/repository/models/{model:str}/unload",
        ],
        status_code=200,
    )
    async def change(request: AnyRequest) -> Response[bytes]:
        model = request.path_params["model"]
        operations = desk.operations
        if operations is None or not desk.may_change:
            raise refuse_change(model)
        parameters = read_object(await request.body()).get("parameters")
        refuse_load_parameters(parameters if isinstance(parameters, dict) else {})
        is_load = request.url.path.endswith("/load")
        await (operations.load(model) if is_load else operations.unload(model))
        return json_response({})

    return [index, change]
