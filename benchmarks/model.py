"""A model under measurement: its files, the rows to ask, and what onnxruntime answers to each."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from benchmarks.machine import ROOT

Tensors: TypeAlias = Mapping[str, np.ndarray[Any, np.dtype[Any]]]
"""Arrays by name; axis 0 is the batch, here always of one row."""

_RELATIVE = 1e-4
_ABSOLUTE = 1e-5
_IN, _OUT = "in.", "out."


@dataclass(frozen=True)
class Case:
    """One row to ask, and the one right answer to it."""

    inputs: Tensors
    outputs: Tensors


@dataclass(frozen=True)
class Model:
    """A model of the run on disk."""

    name: str
    onnx: Path
    """What every peer serves."""
    source: Path
    """What Modelyard imports: the estimator where there is one, so that it converts by itself."""
    sample: Path | None
    """Rows as callers send them, for Modelyard's import."""
    columns: Sequence[str]
    """Names of a table's columns; empty where the model takes no table."""
    cases: Sequence[Case]


def make_model(name: str, folder: Path) -> Model:
    """Make the model and its cases in `folder`, in a process of its own; some seconds.

    Of its own, because onnxruntime loaded in the process that measures would share its pages with
    the servers and make these look smaller than they are.
    """
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", f"benchmarks.models.{name}", str(place)]
    subprocess.run(command, check=True, cwd=ROOT)
    estimator, table, columns = place / "model.skops", place / "rows.csv", place / "columns.txt"
    return Model(
        name=name,
        onnx=place / "model.onnx",
        source=estimator if estimator.exists() else place / "model.onnx",
        sample=table if table.exists() else None,
        columns=columns.read_text("utf-8").splitlines() if columns.exists() else (),
        cases=load_cases(place / "cases.npz"),
    )


def with_one_answer(model: Model) -> Model:
    """The same questions, of which every one is answered like the first: what an echo is asked."""
    answer = model.cases[0].outputs
    return replace(model, cases=[Case(case.inputs, answer) for case in model.cases])


def save_cases(path: Path, inputs: Tensors, outputs: Tensors) -> None:
    """Write all rows at once; axis 0 of every array counts them."""
    named = {f"{_IN}{name}": array for name, array in inputs.items()}
    named |= {f"{_OUT}{name}": array for name, array in outputs.items()}
    np.savez(path, allow_pickle=False, **named)


def load_cases(path: Path) -> list[Case]:
    """The rows that `save_cases` wrote, one a case."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    inputs = {name.removeprefix(_IN): each for name, each in arrays.items() if name.startswith(_IN)}
    outputs = {
        name.removeprefix(_OUT): each for name, each in arrays.items() if name.startswith(_OUT)
    }
    rows = len(next(iter(inputs.values())))
    return [
        Case(
            {name: array[row : row + 1] for name, array in inputs.items()},
            {name: array[row : row + 1] for name, array in outputs.items()},
        )
        for row in range(rows)
    ]


def is_close(answer: Tensors, right: Tensors) -> bool:
    """All outputs of `right`: the same whole numbers, the same others up to float32 rounding.

    In the same order; some servers give a vector of labels as a column, which is no mistake.
    """
    return all(
        name in answer and _is_close(np.asarray(answer[name]), array)
        for name, array in right.items()
    )


def _is_close(mine: np.ndarray[Any, np.dtype[Any]], right: np.ndarray[Any, np.dtype[Any]]) -> bool:
    if mine.size != right.size or mine.dtype.kind not in "iuf":
        return False
    mine = mine.reshape(right.shape)
    if right.dtype.kind in "iu":
        return bool(np.array_equal(mine, right))
    return bool(np.allclose(mine, right, rtol=_RELATIVE, atol=_ABSOLUTE))
