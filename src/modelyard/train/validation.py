"""Holds the cleaned table against the recipe's conditions, and says all that is wrong at once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd

from modelyard.core.errors import Invalid
from modelyard.train.columns import is_number
from modelyard.train.hints import did_you_mean, quoted
from modelyard.train.recipe import Validate
from modelyard.train.table import Table

_MOST_PROBLEMS = 10


@dataclass(frozen=True, slots=True)
class Problem:
    """One condition that does not hold, and the column it is about."""

    column: str
    text: str


def validate(table: Table, conditions: Validate) -> None:
    """Raise one `Invalid` naming columns and rows, ten problems at most, if anything is amiss."""
    problems = list(_problems(table, conditions))
    if not problems:
        return
    shown = "; ".join(problem.text for problem in problems[:_MOST_PROBLEMS])
    more = len(problems) - _MOST_PROBLEMS
    raise Invalid(
        "bad_table",
        f"{table.dataset.source}: {shown}" + (f"; and {more} more problems" if more > 0 else ""),
        field=problems[0].column or None,
    )


def _problems(table: Table, conditions: Validate) -> Sequence[Problem]:
    frame = table.frame
    problems: list[Problem] = []
    if len(frame) < conditions.min_rows:
        problems.append(
            Problem("", f"{len(frame):,} rows are left, and 'min_rows' is {conditions.min_rows:,}")
        )
    columns: dict[str, list[Callable[[Table, str], Problem | None]]] = {}
    for name in conditions.required:
        columns.setdefault(name, [])
    for name in conditions.not_null:
        columns.setdefault(name, []).append(_missing)
    for name in conditions.unique:
        columns.setdefault(name, []).append(_repeated)
    for name, limits in conditions.ranges.items():
        columns.setdefault(name, []).append(_outside(limits.minimum, limits.maximum))
    for name, values in conditions.allowed.items():
        columns.setdefault(name, []).append(_not_among(values))
    for name, pattern in conditions.regex.items():
        columns.setdefault(name, []).append(_unlike(pattern))
    for name, checks in columns.items():
        if name not in frame.columns:
            hint = did_you_mean(name, frame.columns).removeprefix("; ")
            problems.append(Problem(name, f"column '{name}' is missing ({hint})"))
            continue
        problems += [problem for check in checks if (problem := check(table, name)) is not None]
    return problems


def _missing(table: Table, name: str) -> Problem | None:
    mask = table.frame[name].isna()
    return _problem(table, name, mask, "is missing", value=False)


def _repeated(table: Table, name: str) -> Problem | None:
    values = table.frame[name]
    return _problem(table, name, values.duplicated(keep=False) & values.notna(), "is not unique")


def _outside(
    minimum: float | None, maximum: float | None
) -> Callable[[Table, str], Problem | None]:
    def check(table: Table, name: str) -> Problem | None:
        values = table.frame[name]
        if not is_number(values):
            return Problem(name, f"column '{name}' has a range, but is not of numbers")
        mask = pd.Series(False, values.index)
        if minimum is not None:
            mask |= values < minimum
        if maximum is not None:
            mask |= values > maximum
        low = "-∞" if minimum is None else f"{minimum:g}"
        high = "∞" if maximum is None else f"{maximum:g}"
        return _problem(table, name, mask, f"is outside {low} to {high}")

    return check


def _not_among(allowed: Sequence[object]) -> Callable[[Table, str], Problem | None]:
    def check(table: Table, name: str) -> Problem | None:
        values = table.frame[name]
        mask = ~values.isin(list(allowed)) & values.notna()
        return _problem(table, name, mask, f"is none of {quoted(allowed)}")

    return check


def _unlike(pattern: str) -> Callable[[Table, str], Problem | None]:
    def check(table: Table, name: str) -> Problem | None:
        values = table.frame[name]
        present = values.dropna()
        wrong = ~present.astype("str").str.fullmatch(pattern)
        mask = wrong.reindex(values.index, fill_value=False)
        return _problem(table, name, mask, f"does not match '{pattern}'")

    return check


def _problem(
    table: Table, name: str, mask: pd.Series, what: str, *, value: bool = True
) -> Problem | None:
    if not mask.any():
        return None
    positions = [int(index) for index in mask.index[mask]]
    shown = f" ('{table.frame[name].loc[positions[0]]!s:.40}')" if value else ""
    return Problem(name, f"column '{name}' {what} in {table.places(positions)}{shown}")
