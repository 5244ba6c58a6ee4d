"""The response cache of one endpoint: equal calls get the answer that was given before."""

import hashlib
from collections import OrderedDict
from typing import Final

import msgspec

from modelyard.core.call import Call
from modelyard.core.datatypes import Array
from modelyard.core.ports import Arrays
from modelyard.core.signature import Signature
from modelyard.core.tensors import to_raw
from modelyard.serving.queue import size_bytes

_KEY_BYTES: Final = 32
_MOST_KEYED_BYTES: Final = 256 * 1024
"""Inputs beyond this are not looked up: to digest them would hold the loop too long."""
_ENTRY_BYTES: Final = 400
"""What an entry takes beside its arrays: key, dictionary, and their place in the table."""
_ARRAY_BYTES: Final = 200
_STRING_BYTES: Final = 50
_PARAMETERS: Final = msgspec.msgpack.Encoder(order="deterministic")


class ResponseCache:
    """Answers by what was asked, the least lately used of which make room for new ones.

    A key is a 256-bit digest of the bundle's digest, the tenant, the parameters and the inputs with
    names, datatypes, shapes and bytes; so an answer never crosses versions, models or tenants. The
    arrays kept are read-only copies.
    """

    def __init__(self, digest: str, signature: Signature, max_bytes: int) -> None:
        self._inputs = [(spec.name, f"{spec.name}\0{spec.datatype}") for spec in signature.inputs]
        self._max_bytes = max_bytes
        self._seed = hashlib.blake2b(digest.encode(), digest_size=_KEY_BYTES)
        self._entries: OrderedDict[bytes, tuple[Arrays, int]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def key_of(self, call: Call) -> bytes | None:
        """What tells the call from every other question; None for one that is not to be kept."""
        if size_bytes(call) > _MOST_KEYED_BYTES:
            return None
        digest = self._seed.copy()
        try:
            _add(digest, call.tenant.encode())
            _add(digest, _PARAMETERS.encode(call.parameters or None))
            for name, label in self._inputs:
                array = call.inputs[name]
                _add(digest, f"{label}\0{array.shape}".encode())
                _add(digest, to_raw(array))
        except (TypeError, ValueError, OverflowError):
            # Parameters that are no plain values, or text that is no Unicode.
            return None
        return digest.digest()

    def find(self, key: bytes) -> Arrays | None:
        """The answer kept for a key."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def keep(self, key: bytes, outputs: Arrays) -> None:
        """Keep an answer, unless it would take all the room there is."""
        size = _ENTRY_BYTES + sum(_size_bytes(array) for array in outputs.values())
        if size > self._max_bytes or key in self._entries:
            return
        self._entries[key] = ({name: _frozen(array) for name, array in outputs.items()}, size)
        self.bytes += size
        while self.bytes > self._max_bytes:
            _, (_, freed) = self._entries.popitem(last=False)
            self.bytes -= freed


def _add(digest: "hashlib.blake2b", part: bytes) -> None:
    """Length first: no two sequences of parts are the same bytes."""
    digest.update(len(part).to_bytes(8, "little"))
    digest.update(part)


def _frozen(array: Array) -> Array:
    # A copy: an answer is a slice of its whole batch, and would keep all of it.
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _size_bytes(array: Array) -> int:
    size = _ARRAY_BYTES + array.nbytes
    if array.dtype.kind == "O":
        size += sum(_STRING_BYTES + 4 * len(value) for value in array.flat)
    return size
