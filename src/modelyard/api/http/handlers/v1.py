"""The v1 protocol beside prediction, as TensorFlow Serving and KServe have it."""

from litestar import Response, get, post
from litestar.handlers import HTTPRouteHandler

from modelyard.api.asks import seen_listings
from modelyard.api.http.guard import CALL, path_of
from modelyard.api.http.handlers.desk import AnyRequest, Desk, json_response, of_version
from modelyard.api.http.metadata import v1_status
from modelyard.core.errors import Invalid, ModelyardError, NotFound


def v1_handlers(desk: Desk) -> list[HTTPRouteHandler]:
    """The models and their status; verbs other than `:predict` are refused."""

    @get("/v1/models", sync_to_thread=False, opt=CALL)
    def models(request: AnyRequest) -> Response[bytes]:
        lines = seen_listings(desk.exchange, request.user.principal)
        # A model with a canary has a line for each of its versions.
        ready = dict.fromkeys(line.model for line in lines if line.ready)
        return json_response({"models": list(ready)})

    @get(of_version("/v1/models/{}"), sync_to_thread=False, opt=CALL)
    def status(request: AnyRequest) -> Response[bytes]:
        number = request.path_params.get("number")
        return json_response(v1_status(desk.exchange, desk.served(request), number))

    @post(of_version("/v1/models/{}"), sync_to_thread=False, opt=CALL)
    def verb(request: AnyRequest) -> None:
        raise _no_verb(path_of(request))

    return [models, status, verb]


def _no_verb(path: str) -> ModelyardError:
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
