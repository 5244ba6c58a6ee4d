"""Small tables for the tests of training."""

import numpy as np


def csv_table(rows: int = 60, seed: int = 0) -> list[str]:
    """Lines of a CSV: a number, a whole number, text and truth, and a class that they tell."""
    random = np.random.default_rng(seed)
    lines = ["size,count,colour,wet,y"]
    for _ in range(rows):
        size, count = random.normal(), int(random.integers(0, 9))
        colour, wet = str(random.choice(["red", "blue"])), bool(random.random() < 0.5)
        label = "big" if size + 0.1 * count + 0.5 * wet > 0.5 else "small"
        lines.append(f"{size:.6f},{count},{colour},{str(wet).lower()},{label}")
    return lines


def text(lines: list[str]) -> str:
    """The lines as a file."""
    return "\n".join(lines) + "\n"
