from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelyard.train import Trained, train
from modelyard.train.recipe import parse_recipe

Trainer = Callable[..., Trained]


@pytest.fixture
def train_csv(tmp_path: Path) -> Iterator[Trainer]:
    """Train on CSV text (or bytes); keywords are sections of the recipe over small defaults."""

    def run(table: str | bytes, **sections: Any) -> Trained:
        data = table.encode() if isinstance(table, str) else table
        (tmp_path / "table.csv").write_bytes(data)
        source = {"csv": "table.csv", **sections.pop("source", {})}
        document = {
            "name": "m",
            "target": "y",
            "source": source,
            "algorithm": {"name": "decision_tree"},
            "split": {"validation": 0.0, "test": 0.25},
            **sections,
        }
        return train(parse_recipe(document), base=tmp_path)

    return run
