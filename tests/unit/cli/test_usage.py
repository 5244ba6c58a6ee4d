"""`modelyard usage` writes what the registry knows, in every form."""

import csv
import io
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from modelyard.cli.main import main
from modelyard.core.call import Outcome
from modelyard.core.rules import Rules
from modelyard.core.usage import Tariff, Unit, amount_text, money_text
from modelyard.gateway.metering.meter import SpooledMeter
from modelyard.gateway.metering.spool import Spool
from modelyard.testing.metering import make_call, make_permit


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home where a server has died with three calls in its spool: two good ones of two rows."""
    home = tmp_path / "home"
    home.mkdir()
    spool = Spool(home / "spool", bound_bytes=2**24, segment_bytes=2**16)
    spool.upkeep()
    meter = SpooledMeter(spool)
    meter.on_rules(Rules(tariffs=(Tariff(models="*", unit=Unit.ROW, nano=400_000),)))
    for tenant, outcome in (("a", Outcome.OK), ("b", Outcome.OK), ("b", Outcome.FAILED)):
        meter.record(make_call(make_permit(tenant=tenant), outcome, rows=2))
    spool.stop()
    spool.close(is_copied=False)
    return home


class Command:
    """`modelyard --home HOME usage …` in this process."""

    def __init__(self, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self._home = home
        self._capfd = capfd
        self.said = ""

    def __call__(self, *arguments: object, status: int = 0) -> str:
        words = ["--home", str(self._home), "usage", *map(str, arguments)]
        assert main(words) == status
        told = self._capfd.readouterr()
        self.said = told.err
        return told.out


@pytest.fixture
def usage(home: Path, capfd: pytest.CaptureFixture[str]) -> Command:
    return Command(home, capfd)


def test_what_a_dead_server_has_left_is_copied_once(usage: Command) -> None:
    """By hand, as often as one likes."""
    assert usage("copy") == "3 events copied\n"
    assert json.loads(usage("copy", "--json")) == {"copied": 0}


def test_a_report_says_the_same_in_every_form(usage: Command, tmp_path: Path) -> None:
    """A table, CSV, JSON and Parquet: amounts and money as exact decimals."""
    usage("copy")
    by = ("--by", "tenant,model")
    lines: list[dict[str, Any]] = json.loads(usage("report", *by, "--json"))["lines"]
    assert [(line["tenant"], line["calls"], line["ok"]) for line in lines] == [
        ("a", 1, 1),
        ("b", 2, 1),
    ]
    assert [(line["amount"], line["cost"], line["unit"]) for line in lines] == [
        ("2", "0.0008", "row"),
        ("2", "0.0008", "row"),
    ]
    assert json.loads(usage("report", *by, "--format", "json"))["lines"] == lines
    rows = list(csv.DictReader(io.StringIO(usage("report", *by, "--format", "csv"))))
    assert rows == [{name: str(value) for name, value in line.items()} for line in lines]
    table = usage("report", *by).splitlines()
    assert table[0].split()[:4] == ["tenant", "model", "unit", "currency"]
    assert table[1].split()[:3] == ["a", "churn", "row"]
    file = tmp_path / "usage.parquet"
    assert usage("report", *by, "--format", "parquet", "--out", file) == ""
    assert [
        {**row, "amount": str(int(row["amount"])), "cost": money_text(int(row["cost"] * 10**9))}
        for row in pq.read_table(file).to_pylist()
    ] == lines


def test_events_are_listed_one_by_one(usage: Command, tmp_path: Path) -> None:
    """As JSON lines, and in the other forms; one call by its id."""
    usage("copy")
    found = [json.loads(line) for line in usage("events").splitlines()]
    assert [event["outcome"] for event in found] == ["ok", "ok", "failed"]
    (one,) = usage("events", "--call", found[1]["call"]).splitlines()
    assert json.loads(one) == found[1]
    rows = list(csv.DictReader(io.StringIO(usage("events", "--tenant", "b", "--format", "csv"))))
    assert [row["call"] for row in rows] == [event["call"] for event in found[1:]]
    file = tmp_path / "events.parquet"
    usage("events", "--format", "parquet", "--out", file)
    (cost, _, free) = pq.read_table(file)["cost"].to_pylist()
    assert (cost, free) == (Decimal("0.0008"), 0)
    assert usage("events", "--since", "2100-01-01") == ""
    assert usage("report", "--until", "1h", "--format", "csv").count("\n") == 1


def test_reconcile_ends_with_one_where_something_differs(usage: Command, home: Path) -> None:
    """Spool and database agree, until somebody changes a file."""
    assert "waiting in spools          3\n" in usage("reconcile")
    (segment,) = (home / "spool").glob("*.segment")
    data = bytearray(segment.read_bytes())
    data[:4096] = bytes(4096)
    segment.write_bytes(data)
    assert f"the head of {segment.name} is damaged" in usage("reconcile", status=1)
    assert json.loads(usage("reconcile", "--json", status=1))["waiting"] == 0


def test_prices_are_told_as_they_were_written(usage: Command) -> None:
    """Set, listed and removed."""
    usage("prices", "set", "churn*", "0.0004", "--unit", "row", "--reason", "agreed")
    usage("prices", "set", "*", "12", "--currency", "CHF")
    assert json.loads(usage("prices", "list", "--json")) == [
        {"models": "*", "unit": "request", "price": "12.00", "currency": "CHF"},
        {"models": "churn*", "unit": "row", "price": "0.0004", "currency": "EUR"},
    ]
    usage("prices", "remove", "churn*")
    assert "churn" not in usage("prices", "list")
    usage("prices", "set", "iris", "free", status=1)
    assert "is no price" in usage.said


@pytest.mark.parametrize(
    ("nano", "text"),
    [(0, "0.00"), (1, "0.000000001"), (400_000, "0.0004"), (12_500_000_000, "12.50")],
)
def test_money_is_written_to_its_last_place(nano: int, text: str) -> None:
    """Never rounded."""
    assert money_text(nano) == text


def test_amounts_are_written_in_their_unit() -> None:
    """Seconds are counted in microseconds."""
    assert amount_text(1_500_000, Unit.SECOND) == "1.5"
    assert amount_text(2_000_000, Unit.SECOND) == "2"
    assert amount_text(7, Unit.TOKEN) == "7"


@pytest.mark.parametrize("time", ["yesterday", "", "h", "99999999999d"])
def test_a_time_that_is_none_is_wrong_use(usage: Command, time: str) -> None:
    """And the message says how times are written."""
    usage("report", "--since", time, status=2)
    assert "is no time: write 2026-05-03" in usage.said
