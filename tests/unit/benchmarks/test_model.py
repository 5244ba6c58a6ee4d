from pathlib import Path

import numpy as np
import pytest

from benchmarks.model import Case, Model, is_close, load_cases, save_cases, with_one_answer

RIGHT = {"label": np.array([1]), "probabilities": np.array([[0.25, 0.75]], np.float32)}


@pytest.mark.parametrize(
    "other",
    [
        RIGHT | {"label": np.array([0])},
        RIGHT | {"probabilities": np.array([[0.26, 0.74]])},
        RIGHT | {"probabilities": np.array([[0.25]])},
        RIGHT | {"probabilities": np.array([["a", "b"]])},
        {"label": RIGHT["label"]},
        {},
    ],
)
def test_a_wrong_answer_is_not_close(other: dict[str, np.ndarray]) -> None:
    """Another class, other probabilities, fewer of them, words or nothing are wrong answers."""
    assert not is_close(other, RIGHT)


def test_rounding_is_close() -> None:
    """Float32 digits more or less, labels in a column, and outputs nobody asked for are right."""
    answer = {
        "label": np.array([[1]]),
        "probabilities": np.array([[0.25000001, 0.74999999]]),
        "more": np.array([7]),
    }
    assert is_close(answer, RIGHT)


def test_cases_come_back_row_by_row(tmp_path: Path) -> None:
    """Each row has its own answer, with a batch axis of one, in the datatypes that were written."""
    ids = np.arange(6).reshape(3, 2)
    sums = ids.sum(axis=1, keepdims=True).astype(np.float32)
    save_cases(tmp_path / "cases.npz", {"ids": ids}, {"sum": sums})
    cases = load_cases(tmp_path / "cases.npz")
    assert [case.inputs["ids"].tolist() for case in cases] == [[[0, 1]], [[2, 3]], [[4, 5]]]
    assert [case.outputs["sum"].tolist() for case in cases] == [[[1.0]], [[5.0]], [[9.0]]]
    assert cases[0].outputs["sum"].dtype == np.float32


def test_an_echo_is_right_when_it_repeats_itself() -> None:
    """The questions stay different; the one right answer is the first."""
    cases = [
        Case({"input": np.array([[float(row)]])}, {"sum": np.array([[float(row)]])})
        for row in range(3)
    ]
    model = with_one_answer(Model("m", Path(), Path(), None, (), cases))
    assert [case.inputs["input"].item() for case in model.cases] == [0, 1, 2]
    assert [case.outputs["sum"].item() for case in model.cases] == [0, 0, 0]
