"""The JSON before binary tensors: often the same from request to request, and then known again."""

from dataclasses import dataclass
from typing import Final

from modelyard.api.http.wire import Write
from modelyard.core.datatypes import Array, Datatype
from modelyard.core.tensors import from_raw

_MOST: Final = 64
_LONGEST: Final = 2048


@dataclass(frozen=True, slots=True)
class Piece:
    """One binary tensor: what it is, and how many bytes of the tail are its."""

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    size: int


@dataclass(frozen=True, slots=True)
class KnownJson:
    """What reading the JSON of a request gave, all of whose tensors are binary."""

    pieces: tuple[Piece, ...]
    size: int
    write: Write

    def read(self, tail: memoryview) -> dict[str, Array] | None:
        """The tensors in the bytes behind the JSON; None where there are more or fewer bytes."""
        if len(tail) != self.size:
            return None
        arrays: dict[str, Array] = {}
        start = 0
        for piece in self.pieces:
            end = start + piece.size
            arrays[piece.name] = from_raw(piece.datatype, piece.shape, tail[start:end], piece.name)
            start = end
        return arrays


class KnownJsons:
    """A bounded store of them. One is kept when it comes twice in a row: ids make each another."""

    def __init__(self) -> None:
        self._known: dict[bytes, KnownJson] = {}
        self._last = b""

    def find(self, json: bytes) -> KnownJson | None:
        """What is known of these bytes."""
        return self._known.get(json)

    def is_worth(self, json: bytes) -> bool:
        """Whether to `keep` what these bytes gave."""
        before, self._last = self._last, json
        return json == before and len(json) <= _LONGEST

    def keep(self, json: bytes, known: KnownJson) -> None:
        """Know these bytes from now on."""
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[json] = known
