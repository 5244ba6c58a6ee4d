"""How a spool's segment lies on the disk.

    | head | events, from the front -> ...  <- definitions of subjects, from the back |

Events have one size and are an array for whoever reads them. An event says its subject by number;
the definition of a number is complete before the first event that uses it. Both carry a checksum
that is written last: what a death or a power cut has left half-written is told from what is whole.
The file is zeros where nothing was written yet.
"""

import struct
from binascii import crc32
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from modelyard.core.call import Outcome
from modelyard.core.usage import Known, Subject, Unit

HEAD_BYTES: Final = 4096
EVENT_BYTES: Final = 48
COPY_AT: Final = 2048
"""Where the head stands once more."""
HEAP_AT: Final = 256
"""Where the head says how far down the definitions reach: the one part of it that changes."""

BODY: Final = struct.Struct("<QQQQIIBBxx")
"""An event without its checksum: number of the call, arrival (Unix ns), ns that it took, amount,
subject, rows, outcome, how the amount is known."""
SEALED: Final = struct.Struct(f"<{BODY.size}sI")
"""An event: its body, and the CRC-32 of that."""
EVENT: Final = np.dtype(
    {
        "names": [
            *("number", "arrived_ns", "took_ns", "amount"),
            # Padding has a name: numpy copies what has one.
            *("subject", "rows", "outcome", "known", "padding", "crc"),
        ],
        "formats": ["<u8", "<u8", "<u8", "<u8", "<u4", "<u4", "u1", "u1", "<u2", "<u4"],
        "offsets": [0, 8, 16, 24, 32, 36, 40, 41, 42, 44],
        "itemsize": EVENT_BYTES,
    }
)
Events = NDArray[np.void]

OUTCOMES: Final = tuple(Outcome)
KNOWN: Final = tuple(Known)
UNITS: Final = tuple(Unit)
UNIT_BITS: Final = 3
"""The lowest bits of a subject's number are its unit's place in `UNITS`."""

HOUR_NS: Final = 3_600_000_000_000

_MAGIC: Final = b"MYUSAGE1"
_HEAD: Final = struct.Struct("<8s16s16sQQQI")
_HEAP: Final = struct.Struct("<qq")
_DEFINED: Final = 0x4A425553
_DESCRIPTOR: Final = struct.Struct("<IIII")
_ALIGNED: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Whose segment it is: `first` is the place of its first event among all of the spool."""

    spool: str
    prefix: str
    first: int
    size: int
    created_ns: int

    def encode(self) -> bytes:
        """The head's bytes."""
        body = _HEAD.pack(
            _MAGIC,
            self.spool.encode(),
            self.prefix.encode(),
            self.first,
            self.size,
            self.created_ns,
            0,
        )
        return body[:-4] + crc32(body[:-4]).to_bytes(4, "little")


def parse_head(data: bytes) -> Head | None:
    """The head of a segment; None where neither copy of it is whole."""
    for start in (0, COPY_AT):
        magic, spool, prefix, first, size, created_ns, crc = _HEAD.unpack_from(data, start)
        if magic == _MAGIC and crc == crc32(data[start : start + _HEAD.size - 4]):
            return Head(
                spool=spool.rstrip(b"\0").decode(),
                prefix=prefix.rstrip(b"\0").decode(),
                first=first,
                size=size,
                created_ns=created_ns,
            )
    return None


def encode_heap(bottom: int) -> bytes:
    """How far down the definitions reach; said twice, as this has no checksum."""
    return _HEAP.pack(bottom, ~bottom)


def encode_definition(number: int, subject: Subject) -> bytes:
    """A definition: its text, and the descriptor that ends it. Twice, as many events need it."""
    text = msgspec.json.encode(subject)
    descriptor = _DESCRIPTOR.pack(_DEFINED, len(text), number, crc32(text, number))
    return 2 * (text.ljust(_size(len(text)) - len(descriptor), b"\0") + descriptor)


def read_definitions(data: bytes) -> tuple[dict[int, Subject], int]:
    """The whole definitions of a segment, and how far down they reach.

    A damaged one is stepped over: the next ends at one of the places below it.
    """
    floor, known = HEAD_BYTES, _heap_bottom(data)
    if known is not None:
        floor = known
    found: dict[int, Subject] = {}
    top = lowest = len(data)
    while top - _ALIGNED >= floor:
        magic, length, number, crc = _DESCRIPTOR.unpack_from(data, top - _DESCRIPTOR.size)
        bottom = top - _size(length)
        text = data[bottom : bottom + length]
        if magic != _DEFINED or bottom < floor or crc32(text, number) != crc:
            top -= _ALIGNED
            continue
        found[number] = msgspec.json.decode(text, type=Subject)
        top = lowest = bottom
    return found, lowest if known is None else known


def _size(length: int) -> int:
    return -(-(length + _DESCRIPTOR.size) // _ALIGNED) * _ALIGNED


def _heap_bottom(data: bytes) -> int | None:
    bottom, inverse = _HEAP.unpack_from(data, HEAP_AT)
    return int(bottom) if bottom == ~inverse and HEAD_BYTES <= bottom <= len(data) else None


def as_events(data: bytes | memoryview) -> Events:
    """Bytes as events, a whole number of them."""
    return np.frombuffer(data, EVENT)


def are_whole(events: Events) -> NDArray[np.bool_]:
    """Which of them have the checksum that they should have."""
    data = events.tobytes()
    body = BODY.size
    found = [crc32(data[at : at + body]) for at in range(0, len(data), EVENT_BYTES)]
    whole: Any = np.array(found, np.uint32) == events["crc"]
    return np.asarray(whole, np.bool_)
