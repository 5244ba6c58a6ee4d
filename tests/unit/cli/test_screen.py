import datetime
import json

import pytest

from modelyard.cli.screen import say_facts, say_json, say_table


def test_a_piped_table_is_aligned_text(capsys: pytest.CaptureFixture[str]) -> None:
    """No boxes and no colours where nobody looks."""
    say_table(("model", "newest"), [("churn", 12), ("[red]", None)])
    assert capsys.readouterr().out == "model  newest\nchurn  12\n[red]\n"


def test_facts_without_a_value_are_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    """Names are aligned, empty values are not shown."""
    say_facts([("task", None), ("a", ("x", "y")), ("rows", 1.5), ("note", ""), ("none", ())])
    assert capsys.readouterr().out == "a     x, y\nrows  1.5\n"


def test_json_is_one_line_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    """One document, one line, times in ISO 8601."""
    say_json({"at": datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC)})
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == {"at": "2026-01-02T00:00:00Z"}
