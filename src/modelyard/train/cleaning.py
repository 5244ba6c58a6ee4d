"""Removes rows before the split: without a target, with a gap where gaps are dropped, said twice.

Filling gaps is no cleaning here: that is fitted on the train part and lives in the pipeline.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from modelyard.core.errors import Invalid
from modelyard.train.columns import is_number, is_text
from modelyard.train.hints import counted
from modelyard.train.recipe import Clean, Constant, Missing, Outliers, Strategy
from modelyard.train.table import Table

_FACTORS = {"iqr": 1.5, "zscore": 3.0, "percentile": 1.0}


def strategy_of(missing: Missing, name: str, values: pd.Series) -> Strategy | Constant:
    """What the recipe does about gaps in a column."""
    if name in missing.columns:
        return missing.columns[name]
    return missing.text if is_text(values) else missing.numbers


def clean_rows(
    table: Table, clean: Clean, features: Sequence[str], target: str
) -> tuple[Table, list[str]]:
    """The rows that training may use, and a sentence for each reason that removed some."""
    notes: list[str] = []
    frame = table.frame
    unlabelled = frame[target].isna()
    if unlabelled.all():
        raise Invalid(
            "no_target", f"the target column '{target}' holds no values at all", field=target
        )
    frame = _without(frame, unlabelled, f"without a value in '{target}'", notes)
    for name in features:
        if strategy_of(clean.missing, name, frame[name]) == "drop":
            frame = _without(frame, frame[name].isna(), f"without a value in '{name}'", notes)
    if clean.duplicates == "drop":
        again = frame.duplicated(subset=[*features, target])
        frame = _without(frame, again, "that said the same as an earlier one", notes)
    if frame.empty:
        raise Invalid("no_rows", "cleaning left no rows: " + "; ".join(notes), field="clean")
    return Table(frame, table.dataset, table.places), notes


def tame_outliers(
    frame: pd.DataFrame, outliers: Outliers | None, features: Sequence[str]
) -> tuple[pd.DataFrame, list[str]]:
    """The train part with its outliers dropped or clipped, and a note on how many there were."""
    if outliers is None:
        return frame, []
    names = [name for name in outliers.columns or features if is_number(frame[name])]
    factor = outliers.factor or _FACTORS[outliers.rule]
    out = pd.Series(False, frame.index)
    clipped = frame.copy()
    for name in names:
        low, high = _limits(frame[name], outliers.rule, factor)
        out |= (frame[name] < low) | (frame[name] > high)
        if outliers.action == "clip":
            clipped[name] = frame[name].astype(np.float64).clip(low, high)
    if not out.any():
        return frame, []
    note = f"{counted(int(out.sum()), 'row')} of the train part had outliers by {outliers.rule}"
    if outliers.action == "clip":
        return clipped, [f"{note}: clipped"]
    if out.all():
        raise Invalid(
            "no_rows", "every row of the train part is an outlier; widen the factor", field="clean"
        )
    return frame[~out], [f"{note}: dropped"]


def _without(frame: pd.DataFrame, mask: pd.Series, why: str, notes: list[str]) -> pd.DataFrame:
    if not mask.any():
        return frame
    notes.append(f"{counted(int(mask.sum()), 'row')} {why}: dropped")
    return frame[~mask]


def _limits(values: pd.Series, rule: str, factor: float) -> tuple[float, float]:
    if rule == "percentile":
        return float(values.quantile(factor / 100)), float(values.quantile(1 - factor / 100))
    if rule == "zscore":
        middle, spread = float(values.mean()), float(values.std(ddof=0))
        return middle - factor * spread, middle + factor * spread
    lower, upper = float(values.quantile(0.25)), float(values.quantile(0.75))
    reach = factor * (upper - lower)
    return lower - reach, upper + reach
