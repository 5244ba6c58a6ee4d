"""Writes a made-up table of telephone customers as a CSV: `[FILE]`, else beside this.

Numbers, whole numbers, truth values, text and gaps: what real tables have.
The same seed writes the same bytes.
"""

import csv
import sys
from pathlib import Path

import numpy as np

COLUMNS = (
    "customer_id",
    "age",
    "plan",
    "region",
    "paperless",
    "tenure_months",
    "monthly_charge",
    "support_calls",
    "churned",
)
_PLANS, _FEES = ("basic", "family", "business"), (18.0, 42.0, 65.0)
_REGIONS = ("north", "south", "east", "west")


def write(path: Path, rows: int = 1500, seed: int = 11) -> None:
    """Write `rows` customers; about a quarter of them leave, for reasons that can be learnt."""
    random = np.random.default_rng(seed)
    plan = random.choice(3, rows, p=[0.5, 0.3, 0.2])
    age = random.integers(18, 85, rows)
    tenure = random.gamma(2.0, 14.0, rows).astype(int)
    calls = random.poisson(1.3, rows)
    charge = np.round(np.asarray(_FEES)[plan] + random.normal(0.0, 6.0, rows), 2)
    paperless = random.random(rows) < 0.6
    pull = (
        -1.6 + 0.75 * calls - 0.05 * tenure + 0.012 * charge + 0.6 * (plan == 0) - 0.3 * paperless
    )
    churned = random.random(rows) < 1.0 / (1.0 + np.exp(-pull))
    gaps = random.random((rows, 3)) < (0.06, 0.05, 0.03)
    region = random.choice(_REGIONS, rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(COLUMNS)
        for row in range(rows):
            table.writerow(
                (
                    f"C{row + 1:05d}",
                    "" if gaps[row, 0] else age[row],
                    _PLANS[plan[row]],
                    "" if gaps[row, 1] else region[row],
                    "true" if paperless[row] else "false",
                    tenure[row],
                    "" if gaps[row, 2] else f"{charge[row]:.2f}",
                    calls[row],
                    "yes" if churned[row] else "no",
                )
            )


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("churn.csv"))
