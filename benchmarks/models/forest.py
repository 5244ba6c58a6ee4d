"""The model of the benchmarks: 100 trees over the Wisconsin breast-cancer table, seed fixed.

`python -m benchmarks.forest FOLDER` writes it. The benchmarks call that as a process of its own:
were scikit-learn and onnxruntime loaded in the process that measures, their pages would be shared
with the servers and make these look smaller than they are.
"""

import csv
import subprocess
import sys
from pathlib import Path

import msgspec

from benchmarks.machine import ROOT
from benchmarks.peer import Answer, Forest

_TREES = 100
_SEED = 20
_ROWS = 64


class _Cases(msgspec.Struct, frozen=True):
    rows: list[dict[str, float]]
    answers: list[Answer]


def make_forest(folder: Path) -> Forest:
    """Train, convert and write the forest into `folder`; some seconds."""
    command = [sys.executable, "-m", "benchmarks.forest", str(folder)]
    subprocess.run(command, check=True, cwd=ROOT)
    cases = msgspec.json.decode((folder / "cases.json").read_bytes(), type=_Cases)
    return Forest(
        onnx=folder / "forest.onnx",
        skops=folder / "forest.skops",
        table=folder / "rows.csv",
        rows=cases.rows,
        answers=cases.answers,
    )


def _write(folder: Path) -> None:
    import skops.io
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    table = load_breast_cancer(as_frame=True)
    train, test, target, _ = train_test_split(
        table.data, table.target, test_size=0.2, random_state=_SEED, stratify=table.target
    )
    forest = RandomForestClassifier(n_estimators=_TREES, random_state=_SEED).fit(train, target)
    folder.mkdir(parents=True, exist_ok=True)
    skops.io.dump(forest, folder / "forest.skops")
    (folder / "forest.onnx").write_bytes(_to_onnx(forest, len(table.feature_names)))
    rows: list[dict[str, float]] = test.head(_ROWS).to_dict("records")
    with (folder / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    cases = _Cases(rows, _ask_onnxruntime(folder / "forest.onnx", rows))
    (folder / "cases.json").write_bytes(msgspec.json.encode(cases))


def _to_onnx(forest: object, features: int) -> bytes:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    model = convert_sklearn(
        forest,
        initial_types=[("input", FloatTensorType([None, features]))],
        options={id(forest): {"zipmap": False}},
    )
    return bytes(model.SerializeToString())


def _ask_onnxruntime(model: Path, rows: list[dict[str, float]]) -> list[Answer]:
    import numpy as np
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    answers = []
    for row in rows:
        inputs = np.array([list(row.values())], np.float32)
        labels, probabilities = session.run(None, {"input": inputs})
        answers.append(Answer(int(labels[0]), probabilities[0].tolist()))
    return answers


if __name__ == "__main__":
    _write(Path(sys.argv[1]))
