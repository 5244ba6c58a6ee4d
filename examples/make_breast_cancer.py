"""Writes the breast-cancer table that scikit-learn ships as a CSV: `[FILE]`, else beside this."""

import sys
from pathlib import Path

from sklearn.datasets import load_breast_cancer


def write(path: Path) -> None:
    """Write 569 rows of 30 measures and a diagnosis."""
    data = load_breast_cancer(as_frame=True)
    table = data.data.assign(diagnosis=data.target_names[data.target])
    table.to_csv(path, index=False)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("breast-cancer.csv"))
