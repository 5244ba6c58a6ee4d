import pandas as pd
import pytest

from modelyard.bundle.manifest import Dataset
from modelyard.core.errors import Invalid
from modelyard.train.recipe import Range, Validate
from modelyard.train.table import Table, row_numbers
from modelyard.train.validation import validate


def table(**columns: list[object]) -> Table:
    frame = pd.DataFrame(columns)
    return Table(frame, Dataset("t", "t.csv", "0" * 64, len(frame), len(columns)), row_numbers)


def complaint(checked: Table, conditions: Validate) -> str:
    with pytest.raises(Invalid) as caught:
        validate(checked, conditions)
    assert caught.value.code == "bad_table"
    return caught.value.message


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        (Validate(required=("agee",)), "column 'agee' is missing (did you mean 'age'?)"),
        (Validate(not_null=("plan",)), "column 'plan' is missing in row 3"),
        (Validate(unique=("plan",)), "column 'plan' is not unique in rows 1 and 4 ('a')"),
        (
            Validate(ranges={"age": Range(minimum=0, maximum=120)}),
            "column 'age' is outside 0 to 120 in rows 2 and 3 ('-1')",
        ),
        (Validate(ranges={"age": Range(maximum=100)}), "outside -∞ to 100 in row 3"),
        (Validate(ranges={"plan": Range(minimum=0)}), "'plan' has a range, but is not of numbers"),
        (
            Validate(allowed={"plan": ("a", "c")}),
            "column 'plan' is none of 'a', 'c' in row 2 ('b')",
        ),
        (Validate(regex={"plan": "[a-a]"}), "column 'plan' does not match '[a-a]' in row 2 ('b')"),
        (Validate(min_rows=5), "4 rows are left, and 'min_rows' is 5"),
    ],
)
def test_each_condition_names_column_rows_and_value(conditions: Validate, says: str) -> None:
    """A reader can go straight to the cell."""
    checked = table(age=[30, -1, 130, 40], plan=["a", "b", None, "a"])
    assert says in complaint(checked, conditions)


def test_a_table_that_meets_its_conditions_passes() -> None:
    """Missing values are only the business of `not_null`."""
    validate(
        table(age=[1.0, None], plan=["a", None]),
        Validate(
            required=("age",),
            unique=("plan",),
            ranges={"age": Range(minimum=0)},
            allowed={"plan": ("a",)},
            regex={"plan": "a"},
            min_rows=2,
        ),
    )


def test_everything_wrong_is_said_at_once() -> None:
    """One error with both problems."""
    says = complaint(
        table(age=[-1], plan=["b"]),
        Validate(ranges={"age": Range(minimum=0)}, allowed={"plan": ("a",)}),
    )
    assert "'age'" in says
    assert "'plan'" in says


def test_the_message_stays_short() -> None:
    """Ten problems and five rows each, the rest counted."""
    many = table(**{f"c{index}": [-1] * 1000 for index in range(30)})
    says = complaint(many, Validate(ranges={f"c{i}": Range(minimum=0) for i in range(30)}))
    assert "rows 1, 2, 3, 4, 5 and 995 more" in says
    assert "and 20 more problems" in says
    assert len(says) < 1500
