"""A forest of 100 trees over the Wisconsin breast-cancer table, seed fixed.

Modelyard gets the estimator (`model.skops`) and converts it itself; the others get `model.onnx`.
"""

import sys
from pathlib import Path

import numpy as np

from benchmarks.models.reference import write_cases

_TREES = 100
_SEED = 20
_ROWS = 64


def write(folder: Path) -> None:
    """Train, convert and write the forest, and rows that it has not seen."""
    import skops.io
    from sklearn.datasets import load_breast_cancer
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import train_test_split

    table = load_breast_cancer(as_frame=True)
    train, test, target, _ = train_test_split(
        table.data, table.target, test_size=0.2, random_state=_SEED, stratify=table.target
    )
    forest = RandomForestClassifier(n_estimators=_TREES, random_state=_SEED).fit(train, target)
    skops.io.dump(forest, folder / "model.skops")
    (folder / "model.onnx").write_bytes(_to_onnx(forest, len(table.feature_names)))
    rows = test.head(_ROWS)
    rows.to_csv(folder / "rows.csv", index=False)
    (folder / "columns.txt").write_text("\n".join(rows.columns), "utf-8")
    write_cases(folder, {"input": rows.to_numpy(np.float32)})


def _to_onnx(forest: object, features: int) -> bytes:
    from skl2onnx import convert_sklearn
    from skl2onnx.common.data_types import FloatTensorType

    model = convert_sklearn(
        forest,
        initial_types=[("input", FloatTensorType([None, features]))],
        options={id(forest): {"zipmap": False}},
    )
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    write(Path(sys.argv[1]))
