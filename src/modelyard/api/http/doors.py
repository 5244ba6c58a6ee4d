"""Doors: which path is which contract for which model."""

from dataclasses import dataclass
from urllib.parse import unquote

from modelyard.api.http.clouds import InvocationsCodec, ScoreCodec, VertexCodec
from modelyard.api.http.contracts import NO_CLOUD, Contracts
from modelyard.api.http.oip import OipCodec
from modelyard.api.http.rows import RowsCodec, V1Codec
from modelyard.api.http.wire import Codec, CodecFactory
from modelyard.core.errors import ModelyardError
from modelyard.core.ports import Exchange, Served


@dataclass(frozen=True, slots=True)
class Door:
    """An inference path: the contract spoken behind it, and the model and version it names.

    No `model` means that the path names none: `Contracts.choose` finds it for each call.
    """

    contract: str
    codec: CodecFactory
    model: str | None
    version: str | None = None

    def bind(self, served: Served) -> Codec:
        """The contract's codec for a served version, made once and kept with that version."""
        codec = served.cache.get(self.contract)
        if codec is None:
            codec = served.cache[self.contract] = self.codec(served)
        found: Codec = codec
        return found


class Doors:
    """Finds the door of a path: one dictionary entry for a path that was seen before."""

    def __init__(self, exchange: Exchange, contracts: Contracts = NO_CLOUD) -> None:
        self._exchange = exchange
        self._predict_route = contracts.predict_route.encode()
        self._known: dict[bytes, Door] = {}

    def find(self, path: bytes) -> Door | None:
        """The door of a path without its query, or None where it is no inference path."""
        door = self._known.get(path)
        if door is not None:
            return door
        door = parse_path(path, self._predict_route)
        if door is not None and b"%" not in path and self._leads_somewhere(door):
            self._known[path] = door
        return door

    def _leads_somewhere(self, door: Door) -> bool:
        # Only real paths are kept: callers must not be able to fill memory with names.
        if door.model is None:
            return True
        try:
            self._exchange.find(door.model, door.version)
        except ModelyardError:
            return False
        return True


def parse_path(path: bytes, predict_route: bytes = b"") -> Door | None:
    """Read an inference path; see the OpenAPI document for all of them.

    `predict_route` is Vertex AI's, and goes before any other that it may be equal to.
    """
    if path == predict_route:
        return Door("vertex", VertexCodec, None)
    if b"%" in path:
        path = unquote(path.decode("latin-1")).encode()
    match path.decode("utf-8", "replace").split("/"):
        case ["", "v2", "models", model, "infer"]:
            return Door("oip", OipCodec, model)
        case ["", "v2", "models", model, "versions", version, "infer"]:
            return Door("oip", OipCodec, model, version)
        case ["", "predict", model]:
            return Door("predict", RowsCodec, model)
        case ["", "v1", "models", verb] if verb.endswith(":predict"):
            return Door("v1", V1Codec, verb.removesuffix(":predict"))
        case ["", "v1", "models", model, "versions", verb] if verb.endswith(":predict"):
            return Door("v1", V1Codec, model, verb.removesuffix(":predict"))
        case ["", "invocations"]:
            return Door("invocations", InvocationsCodec, None)
        case ["", "score"]:
            return Door("score", ScoreCodec, None)
        case _:
            return None
