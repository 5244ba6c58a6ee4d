"""The sample file: a few real input rows and the outputs they gave, as protocol tensors in JSON."""

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.errors import Invalid
from modelyard.core.ports import Arrays
from modelyard.core.tensors import check_shape, from_list

SAMPLES_PATH = "samples.json"


@dataclass(frozen=True, slots=True)
class Samples:
    """Inputs and the outputs that the serving runtime gave for them, by tensor name."""

    inputs: Arrays
    outputs: Arrays


class _Tensor(msgspec.Struct, frozen=True):
    name: str
    datatype: Datatype
    shape: list[int]
    data: list[bool | int | float | str | None]


class _File(msgspec.Struct, frozen=True):
    inputs: list[_Tensor]
    outputs: list[_Tensor]


def encode_samples(samples: Samples) -> bytes:
    """The sample file's bytes. Numbers keep every bit; NaN and infinity do not survive as such."""
    return msgspec.json.encode(
        _File(_to_tensors(samples.inputs), _to_tensors(samples.outputs)), order="sorted"
    )


def decode_samples(data: bytes) -> Samples:
    """Read a sample file; raises `Invalid`."""
    try:
        file = msgspec.json.decode(data, type=_File)
    except msgspec.MsgspecError as error:
        raise Invalid("bad_samples", f"the sample file cannot be read: {error}") from error
    return Samples(_to_arrays(file.inputs), _to_arrays(file.outputs))


def _to_tensors(arrays: Mapping[str, Array]) -> list[_Tensor]:
    return [
        _Tensor(name, Datatype.of(array.dtype), list(array.shape), array.reshape(-1).tolist())
        for name, array in arrays.items()
    ]


def _to_arrays(tensors: list[_Tensor]) -> dict[str, Array]:
    return {
        tensor.name: from_list(
            tensor.datatype, check_shape(tensor.shape, tensor.name), tensor.data, tensor.name
        )
        for tensor in tensors
    }
