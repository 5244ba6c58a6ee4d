"""The Open Inference Protocol beside inference, with Triton's extensions."""

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from modelyard.api.http.guard import CALL
from modelyard.api.http.handlers.desk import AnyRequest, Desk, json_response, of_version
from modelyard.api.http.metadata import model_metadata, server_metadata
from modelyard.api.http.triton import model_config, model_stats
from modelyard.api.refusals import not_generative
from modelyard.core.errors import Unavailable


def oip_handlers(desk: Desk) -> list[HTTPRouteHandler]:
    """Server and model metadata, configuration, readiness, statistics; generation is refused."""

    @get("/v2", sync_to_thread=False, opt=CALL)
    def server() -> Response[bytes]:
        return json_response(server_metadata(desk.version))

    @get(of_version("/v2/models/{}"), sync_to_thread=False, opt=CALL)
    def metadata(request: AnyRequest) -> Response[bytes]:
        return json_response(model_metadata(desk.served(request)))

    @get(of_version("/v2/models/{}/config"), sync_to_thread=False, opt=CALL)
    def config(request: AnyRequest) -> Response[bytes]:
        return json_response(model_config(desk.served(request)))

    @get(of_version("/v2/models/{}/ready"), sync_to_thread=False, opt=CALL)
    def ready(request: AnyRequest) -> Response[bytes]:
        desk.served(request)
        return json_response({"ready": True})

    @get(["/v2/models/stats", *of_version("/v2/models/{}/stats")], opt=CALL)
    async def stats(request: AnyRequest) -> Response[bytes]:
        if desk.operations is None:
            raise Unavailable("no_statistics", "this server keeps no statistics")
        named = request.path_params
        found = await desk.operations.statistics(named.get("model"), named.get("number"))
        sees = request.user.principal.sees
        return json_response(model_stats(each for each in found if sees(each.model)))

    @post(
        [*of_version("/v2/models/{}/generate"), *of_version("/v2/models/{}/generate_stream")],
        sync_to_thread=False,
        opt=CALL,
    )
    def generate(request: AnyRequest) -> None:
        raise not_generative(desk.served(request).model)

    return [server, metadata, config, ready, stats, generate]
