"""`modelyard limits`: what people and programs see of limits."""

from tests.e2e.conftest import Command


def test_limits_are_set_listed_and_removed(modelyard: Command) -> None:
    """The same calls limited again keep the limit's id; each change is audited."""
    first = modelyard.json("limits", "set", "quota", "--amount", 1000, "--per", "key")
    again = modelyard.json("limits", "set", "quota", "--amount", 500, "--per", "key")
    assert isinstance(first, dict)
    assert isinstance(again, dict)
    assert (again["id"], again["amount"]) == (first["id"], 500)
    modelyard("limits", "set", "quota", "--amount", "12.50", "--unit", "money", "--period", "day")
    listed = modelyard("limits", "list").stdout.decode()
    assert "12.5" in listed
    assert first["id"] in listed
    modelyard("limits", "remove", first["id"])
    (left,) = modelyard.json("limits", "list")  # type: ignore[misc]
    assert left["limit"]["amount"] == 12_500_000_000
    assert left["standings"] == []


def test_what_is_no_limit_is_wrong_use(modelyard: Command) -> None:
    """The message says what to write instead."""
    told = modelyard("limits", "set", "quota", "--amount", "many", status=2).stderr.decode()
    assert "whole number" in told
    told = modelyard("limits", "set", "quota", "--amount", "1e30", status=2).stderr.decode()
    assert "whole number" in told
    told = modelyard("limits", "set", "wish", "--amount", 1, status=1).stderr.decode()
    assert "rate, quota, concurrency" in told
