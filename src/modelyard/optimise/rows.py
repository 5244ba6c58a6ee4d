"""Rows that try a conversion harder than the sample does."""

from typing import Final

import numpy as np

from modelyard.core.datatypes import Array, Datatype
from modelyard.core.ports import Arrays
from modelyard.core.signature import Column, Signature

UNKNOWN_CATEGORY: Final = "\u2047 never seen"
_MOST: Final = 2000


def hard_rows(signature: Signature, inputs: Arrays, seed: int = 0) -> dict[str, Array]:
    """The sample, followed by as many rows again that nobody has seen, 2,000 of each at most.

    Each new row takes every column's value from a random row of the sample, half of the numbers
    moved half way to another row's; then some strings are unknown where categories are open, and
    some values missing where the column is nullable.
    """
    random = np.random.default_rng(seed)
    given = {name: array[:_MOST] for name, array in inputs.items()}
    count = len(next(iter(given.values())))
    return {
        spec.name: np.concatenate(
            [given[spec.name], _shuffled(spec.columns, given[spec.name], count, random)]
        )
        for spec in signature.inputs
    }


def _shuffled(
    columns: tuple[Column, ...], array: Array, count: int, random: np.random.Generator
) -> Array:
    new = array.copy()
    for index, column in enumerate(columns):
        values = array[random.integers(0, count, count), index]
        if array.dtype.kind == "f" and column.datatype.is_float:
            between = (values + array[random.integers(0, count, count), index]) / 2
            values = np.where(random.random(count) < 0.5, values, between)
        new[:, index] = _disturbed(column, values, random)
    return new


def _disturbed(column: Column, values: Array, random: np.random.Generator) -> Array:
    values = values.copy()
    unlucky = random.random(len(values)) < 0.1
    if column.datatype is Datatype.BYTES:
        if column.open_categories:
            values[unlucky] = UNKNOWN_CATEGORY
        unlucky = random.random(len(values)) < 0.1
        if column.nullable:
            values[unlucky] = ""
    elif column.nullable and values.dtype.kind == "f":
        values[unlucky] = np.nan
    return values
