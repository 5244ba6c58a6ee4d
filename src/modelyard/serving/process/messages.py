"""What a worker and a model process say to each other, and how tensors travel in it."""

import math
from typing import Any, Final

import msgspec
import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.signature import TensorSpec
from modelyard.core.tensors import check_shape, from_raw, to_raw
from modelyard.serving.process.faults import Fault
from modelyard.serving.process.ring import RingReader, RingWriter

PROTOCOL: Final = 2
"""Grows when the messages change: a process of other code is not spoken to."""

SHARED_BYTES: Final = 32 * 1024
"""From this size on a tensor goes through shared memory, a smaller one inside its message."""


class Tensor(msgspec.Struct, frozen=True, array_like=True):
    """An array without name and datatype: the signature's order and specs say them.

    `start` is where it lies in shared memory, -1 where `data` holds it.
    """

    shape: tuple[int, ...]
    data: bytes
    start: int = -1
    mark: int = 0


class Asked(msgspec.Struct, frozen=True, array_like=True):
    """A call to run. Moments are those of the machine's monotonic clock."""

    number: int
    inputs: list[Tensor]
    started_ns: int
    deadline_ns: int | None
    priority: int
    parameters: dict[str, Any] | None


class Run(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Calls that were accepted in one turn of the worker's loop."""

    calls: list[Asked]


class Forget(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Nobody waits for these calls any more; they are not answered."""

    numbers: list[int]


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """A call's end: its outputs, or what went wrong."""

    number: int
    outputs: list[Tensor]
    fault: Fault | None = None


class Batch(msgspec.Struct, frozen=True, array_like=True):
    """A batch that was run; it ended at a moment of the machine's monotonic clock."""

    rows: int
    took_ns: int
    ended_ns: int


class Answers(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """Calls that ended together; and what the process has done since it last told anybody.

    `begun` are calls that run now: who leaves one of them pays for it. `waits` calls waited for
    their batches, for `waited_ns` in all. What is queued and what a batch costs, in microseconds,
    is as of now.
    """

    ended: list[Ended]
    begun: list[int]
    batches: list[Batch]
    waits: int
    waited_ns: int
    queued_rows: int
    fixed_us: float
    row_us: float


class Welcome(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """The model is loaded and takes calls."""

    protocol: int
    pid: int


Question = Run | Forget
Reply = Answers | Welcome

encode: Final = msgspec.msgpack.Encoder().encode
decode_question: Final = msgspec.msgpack.Decoder(Question).decode
decode_reply: Final = msgspec.msgpack.Decoder(Reply).decode


def pack(array: Array, ring: RingWriter | None) -> Tensor:
    """The array as it travels; inside the message where there is no ring or no room in it."""
    if array.dtype.hasobject:
        return Tensor(array.shape, to_raw(array))
    if ring is not None and array.nbytes >= SHARED_BYTES:
        place = ring.put(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        if place is not None:
            return Tensor(array.shape, b"", *place)
    return Tensor(array.shape, array.tobytes())


def unpack(spec: TensorSpec, tensor: Tensor, ring: RingReader | None) -> Array:
    """An array of its own, read-only unless it holds text.

    Raises `Invalid` where the bytes do not fit the shape, `BrokenRing` where they lie nowhere.
    """
    shape = check_shape(tensor.shape, spec.name)
    data = tensor.data
    if tensor.start >= 0 and ring is not None and spec.datatype is not Datatype.BYTES:
        length = math.prod(shape) * spec.datatype.dtype.itemsize
        data = ring.take(tensor.start, length, tensor.mark)
    return from_raw(spec.datatype, shape, data, spec.name)
