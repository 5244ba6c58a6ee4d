"""What handlers answer from, and how they write JSON."""

from dataclasses import dataclass
from typing import Any

import orjson
from litestar import MediaType, Request, Response

from modelyard.api.http.contracts import Contracts
from modelyard.core.errors import Invalid
from modelyard.core.ports import Caller, Exchange, Operations, Served

AnyRequest = Request[Caller, Any, Any]
"""A request; its `user` is the caller whom the guard has let in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The exchange, the node's operations if there are any, and what this server is."""

    exchange: Exchange
    operations: Operations | None
    contracts: Contracts
    is_open: bool
    version: str

    def served(self, request: AnyRequest) -> Served:
        """The version that a path names; raises as `Exchange.find`."""
        named = request.path_params
        return self.exchange.find(named["model"], named.get("number"))


def json_response(content: object) -> Response[bytes]:
    """A good answer."""
    return Response(orjson.dumps(content), media_type=MediaType.JSON)


def read_object(body: bytes) -> dict[str, Any]:
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


def of_version(path: str) -> list[str]:
    """A path below a model, and the same below one of its versions; `{}` stands for which."""
    return [path.format("{model:str}"), path.format("{model:str}/versions/{number:str}")]
