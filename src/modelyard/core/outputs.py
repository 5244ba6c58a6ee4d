"""A batch's outputs, and each call's part of them: taken apart only where somebody looks."""

from collections.abc import Iterator, Mapping

from modelyard.core.datatypes import Array


class BatchOutputs:
    """The outputs of one run, by name; axis 0 holds the rows of all its calls.

    `is_row_each` says that there are many calls of one row each. `texts` is a protocol's room for
    the answers of all rows, written at once: encoding sixty-four together costs what two do alone.
    """

    __slots__ = ("arrays", "is_row_each", "size", "texts")

    def __init__(self, arrays: Mapping[str, Array], *, is_row_each: bool) -> None:
        self.arrays = arrays
        self.is_row_each = is_row_each
        self.size = sum([array.size for array in arrays.values()])
        self.texts: dict[object, list[bytes] | None] = {}


class Part(Mapping[str, Array]):
    """One call's rows of a batch's outputs: views, made when they are asked for."""

    __slots__ = ("batch", "start", "stop")

    def __init__(self, batch: BatchOutputs, start: int, stop: int) -> None:
        self.batch = batch
        self.start = start
        self.stop = stop

    def __getitem__(self, name: str) -> Array:
        return self.batch.arrays[name][self.start : self.stop]

    def __iter__(self) -> Iterator[str]:
        return iter(self.batch.arrays)

    def __len__(self) -> int:
        return len(self.batch.arrays)


def is_larger(outputs: Mapping[str, Array], elements: int) -> bool:
    """Whether the outputs have more elements in all; costs next to nothing for a small batch."""
    if type(outputs) is Part and outputs.batch.size <= elements:
        return False
    return sum([array.size for array in outputs.values()]) > elements
