"""Doors: which path is which contract for which model."""

from dataclasses import dataclass
from urllib.parse import unquote

from modelyard.api.http.oip import OipCodec
from modelyard.api.http.rows import predict_codec, v1_codec
from modelyard.api.http.wire import Codec, CodecFactory
from modelyard.core.errors import ModelyardError
from modelyard.core.ports import Exchange, Served


@dataclass(frozen=True, slots=True)
class Door:
    """An inference path: the contract spoken behind it, and the model and version it names."""

    contract: str
    codec: CodecFactory
    model: str
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

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._known: dict[bytes, Door] = {}

    def find(self, path: bytes) -> Door | None:
        """The door of a path without its query, or None where it is no inference path."""
        door = self._known.get(path)
        if door is not None:
            return door
        door = parse_path(path)
        if door is not None and b"%" not in path and self._leads_somewhere(door):
            self._known[path] = door
        return door

    def _leads_somewhere(self, door: Door) -> bool:
        # Only real paths are kept: callers must not be able to fill memory with names.
        try:
            self._exchange.find(door.model, door.version)
        except ModelyardError:
            return False
        return True


def parse_path(path: bytes) -> Door | None:
    """Read an inference path; see the OpenAPI document for all of them."""
    if b"%" in path:
        path = unquote(path.decode("latin-1")).encode()
    match path.decode("utf-8", "replace").split("/"):
        case ["", "v2", "models", model, "infer"]:
            return Door("oip", OipCodec, model)
        case ["", "v2", "models", model, "versions", version, "infer"]:
            return Door("oip", OipCodec, model, version)
        case ["", "predict", model]:
            return Door("predict", predict_codec, model)
        case ["", "v1", "models", verb] if verb.endswith(":predict"):
            return Door("v1", v1_codec, verb.removesuffix(":predict"))
        case ["", "v1", "models", model, "versions", verb] if verb.endswith(":predict"):
            return Door("v1", v1_codec, model, verb.removesuffix(":predict"))
        case _:
            return None
