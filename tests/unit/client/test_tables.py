import datetime
from typing import Any

import numpy as np
import pandas as pd
import pytest

from modelyard.client.tables import to_tensors
from modelyard.core.datatypes import Datatype
from modelyard.core.errors import Invalid
from modelyard.core.signature import Column, Signature, TensorSpec


def table(datatype: Datatype) -> Signature:
    column = Column("day", datatype, nullable=True)
    return Signature((TensorSpec("day", datatype, (-1, 1), (column,)),), ())


DAYS = pd.to_datetime(["2024-01-01", None, "2024-02-03"])


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        (pd.DataFrame({"day": DAYS}), ["2024-01-01", "", "2024-02-03"]),
        (pd.DataFrame({"day": DAYS + pd.Timedelta(hours=9)}),
         ["2024-01-01T09:00:00", "", "2024-02-03T09:00:00"]),
        (pd.DataFrame({"day": DAYS[:1].tz_localize("UTC")}), ["2024-01-01T00:00:00+00:00"]),
        (pd.DataFrame({"day": [datetime.date(2024, 1, 1), None, pd.NaT]}), ["2024-01-01", "", ""]),
        ([{"day": datetime.datetime(2024, 1, 1, 9)}, {"day": pd.NaT}], ["2024-01-01T09:00:00", ""]),
        ({"day": datetime.time(9, 30)}, ["09:30:00"]),
        ({"day": np.array(["2024-01-01", "NaT"], "datetime64[D]")}, ["2024-01-01", ""]),
        (pd.DataFrame({"day": pd.Series(["2024-01-01", pd.NA], dtype="string")}),
         ["2024-01-01", ""]),
        (pd.DataFrame({"day": pd.Categorical(["2024-01-01", None])}), ["2024-01-01", ""]),
    ],
)  # fmt: skip
def test_dates_are_text_in_iso_8601(rows: Any, wanted: list[str]) -> None:
    """A column of midnights is one of dates; what is missing is missing in every way of saying."""
    assert to_tensors(table(Datatype.BYTES), rows)["day"].reshape(-1).tolist() == wanted


def test_a_date_is_no_number() -> None:
    """Nobody guesses the unit and the day that a model counts from."""
    with pytest.raises(Invalid) as caught:
        to_tensors(table(Datatype.FP32), pd.DataFrame({"day": DAYS}))
    assert caught.value.field == "day"
